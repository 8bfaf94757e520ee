"""Brings a data set of labelled panoramas into a run, so that any of them can be training data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import cv2
import numpy as np
import simplejpeg

from ..engine.records.column import Column, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.step import SourceStage
from ..engine.storage.place import Place
from ..models.data.depth_png import encode_depth_png
from ..models.data.images import resize_rgb
from ..models.datasets.base import DatasetError, Entry, Labelled
from .batches.dataset_root import DatasetRoot

_RETRYABLE = frozenset({"missing_file", "permission_denied"})


@dataclass
class Ingest(SourceStage):
    """The panoramas of `dataset` below `root`, a folder or a URI, to `labelled-<source_name>`.

    `dataset` is a name of `models.datasets.catalogue`; `split` takes one of its splits, or those of a list file. What
    is brought in is in its own split, or in `as_split` if that is given or the data set knows none.
    """

    name: ClassVar[str] = "ingest"
    version: ClassVar[int] = 2

    source_name: str
    dataset: str
    root: str
    split: str | None = None
    as_split: str | None = None
    height: int | None = None  # pixels; as it is if not given
    panoramas_per_shard: int = 100
    jpeg_quality: int = 95
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.panoramas_per_shard < 1 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError("ingest: panoramas_per_shard must be at least 1, jpeg_quality 1 to 100")
        if self.height is not None and self.height < 16:
            raise ValueError("ingest: height must be at least 16")
        place = Place.parse(self.root).absolute()  # workers have working folders of their own
        self.root = place.path if place.is_local else str(place)
        self._root = DatasetRoot(self.dataset, self.root)

    @property
    def writes(self) -> Column:
        return TarColumn(f"labelled-{self.source_name}", ("depth.png", "jpg", "json"))

    def check(self) -> None:
        self._check_same_keys()

    def settings(self) -> dict[str, Any]:
        """Without the paths: what counts is what was found there."""
        return {key: value for key, value in super().settings().items() if key not in ("root", "split")}

    def external(self) -> dict[str, Any]:
        return {"dataset": self._found[1]}

    def shards(self) -> Sequence[str]:
        return [f"{number:06d}" for number in range(-(-len(self._entries) // self.panoramas_per_shard))]

    def source(self, shard: str) -> Iterator[Sample]:
        start = int(shard) * self.panoramas_per_shard
        entries = self._entries[start : start + self.panoramas_per_shard]
        return (Sample(entry.key, {"entry": {"entry": entry}}) for entry in entries)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            entry = sample["entry"]["entry"]
            try:
                yield Row(sample.key, self._fields(entry, self._root.read(entry)))
            except DatasetError as error:
                yield Drop(sample.key, error.code, str(error), retryable=error.code in _RETRYABLE)

    @property
    def _entries(self) -> list[Entry]:
        return self._found[0]

    @cached_property
    def _found(self) -> tuple[list[Entry], str]:
        """The panoramas, and a hash of what lies there of them, by one look: it goes to the workers with the stage."""
        entries = sorted(self._root.find(self.split), key=lambda entry: entry.key)
        listing = "".join(f"{e.image} {e.depth} {e.split} {self._root.stats(e)}\n" for e in entries)
        return entries, hashlib.sha256(os.fsencode(listing)).hexdigest()

    def _check_same_keys(self) -> None:
        keys = [entry.key for entry in self._entries]
        if twice := next((key for key, other in pairwise(keys) if key == other), None):
            raise ValueError(f"{self._root}: two panoramas have the key {twice!r}")

    def _fields(self, entry: Entry, item: Labelled) -> dict[str, Any]:
        rgb, depth_m = _resized(item, self.height)
        height, width = depth_m.shape
        file = os.fsencode(entry.image).decode(errors="backslashreplace")  # a name need not be text
        info = {"dataset": self.dataset, "file": file, "scene": item.scene, "width": width, "height": height}
        return {
            "jpg": simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=self.jpeg_quality, colorsubsampling="444"),
            "depth.png": encode_depth_png(depth_m),
            "json": {**info, "split": self.as_split or entry.split or "train"},
        }


def _resized(item: Labelled, height: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth at a height; distances are not interpolated, which would invent some at edges."""
    if height in (None, item.depth_m.shape[0]):
        return item.rgb, item.depth_m
    size = (2 * height, height)
    return resize_rgb(item.rgb, height, 2 * height), cv2.resize(
        item.depth_m, size, interpolation=cv2.INTER_NEAREST_EXACT
    )
