"""Brings a user's own panoramas into a run: pictures of a folder, of a list, or of an object store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from ..engine.records.sample import Drop, Row, Sample
from ..models.data.pictures import read_picture, read_xmp
from ..models.support.files import FileError
from ..models.video.spherical_metadata import declared_in_xmp
from .batches.panorama_source import PanoramaSource
from .extract import RETRYABLE
from .footage.fetch import local_copy
from .footage.listing import PICTURES, RIGHTS, Video, find_videos, unlicensed
from .footage.web import Fetch

_HASH_DIGITS = 10  # at the end of an id


@dataclass
class Images(PanoramaSource):
    """The pictures of `files`, a folder, glob pattern, text or parquet list or URI, to a column of panoramas.

    What a file says of its projection (GPano) counts where the picture itself does not look like a whole panorama. A
    picture stays in its shard when others are added, until there are twice as many. A list may say the split, and the
    `license`, of which one of `licenses` is wanted, if any is named.
    """

    name: ClassVar[str] = "images"

    files: str
    column: str = field(default="photos", kw_only=True)
    licenses: list[str] = field(default_factory=list, kw_only=True)
    fetch: Fetch = field(default_factory=Fetch, kw_only=True)  # of what lies on web servers

    def check(self) -> None:
        _ = self._found

    def settings(self) -> dict[str, Any]:
        """Without the places: what counts is what was found there."""
        return {name: value for name, value in super().settings().items() if name not in ("files", "fetch")}

    def external(self) -> dict[str, Any]:
        listing = "".join(
            f"{one.video_id} {one.bytes} {one.mtime_ns} {json.dumps(_said(one))}\n" for one in self._found
        )
        return {"files": hashlib.sha256(listing.encode()).hexdigest()}

    def shards(self) -> Sequence[str]:
        return sorted(self._by_shard)

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(self.key(one.video_id), {"picture": {"found": one}}) for one in self._by_shard[shard])

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            found: Video = sample["picture"]["found"]
            if drop := unlicensed(found, self.licenses, sample.key):
                yield drop
                continue
            try:
                with local_copy(found.uri, "", self.fetch) as path:
                    rgb, declared = read_picture(path), declared_in_xmp(read_xmp(path))
                file = os.fsencode(found.relative).decode(errors="backslashreplace")  # a name need not be text
                yield self.checked(found.video_id, rgb, {"file": file, **_said(found)}, declared)
            except FileError as error:
                yield Drop(sample.key, error.code, error.detail, retryable=error.code in RETRYABLE)

    @property
    def panoramas(self) -> int | None:
        """How many pictures there are; None where they are out of reach."""
        try:
            return len(self._found)
        except (ValueError, OSError):
            return None

    @property
    def notes(self) -> list[str]:
        return self._search[1]

    @property
    def _found(self) -> list[Video]:
        return self._search[0]

    @cached_property
    def _search(self) -> tuple[list[Video], list[str]]:
        """The pictures, and what is to be said of the rest."""
        notes: list[str] = []
        return find_videos(self.files, notes, PICTURES), notes

    @cached_property
    def _by_shard(self) -> dict[str, list[Video]]:
        """By the hashes in their ids, over a power of two of shards: that changes only where they double."""
        count = 1 << (-(-len(self._found) // self.panoramas_per_shard) - 1).bit_length()
        shards: dict[str, list[Video]] = {}
        for one in self._found:
            shards.setdefault(self.shard(int(one.video_id[-_HASH_DIGITS:], 16) % count), []).append(one)
        return shards


def _said(found: Video) -> dict[str, Any]:
    """What a list says of a picture: its split, and the rights to it."""
    rights = {name: value for name in RIGHTS if (value := getattr(found, name))}
    return rights | ({"split": found.split} if found.split else {})
