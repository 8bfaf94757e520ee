"""Our own shards, packed or labelled: tars with KEY.jpg, KEY.depth.png and KEY.json, which names the split."""

from __future__ import annotations

import json
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import simplejpeg
from webdataset.tariterators import base_plus_ext

from ..data.depth_png import decode_depth_png
from .base import DatasetError, Entry, Labelled, PanoramaSet


class ShardFolder(PanoramaSet):
    """The tar shards of a folder."""

    name = "shards"

    def find(self, root: Path, split: str | None = None) -> list[Entry]:
        shards = sorted(root.glob("*.tar"))
        if not shards:
            raise DatasetError(root, "no tar shards there")
        entries = [entry for shard in shards for entry in _entries(shard)]
        found = [entry for entry in entries if split in (None, entry.split)]
        if not found:
            raise DatasetError(root, f"no panorama of the split {split!r}")
        return found  # shard by shard: packed ones are shuffled, and by key each would be opened over and over

    def files(self, entry: Entry) -> list[str]:
        return [entry.image.split("/")[0]]

    def looks_into(self, name: str) -> bool:
        return name.endswith(".tar")

    def read(self, root: Path, entry: Entry) -> Labelled:
        shard = root / self.files(entry)[0]
        rgb_data, depth_data = (_member(shard, entry.key, field) for field in ("jpg", "depth.png"))
        try:
            rgb = simplejpeg.decode_jpeg(rgb_data, colorspace="RGB")
            depth_m = decode_depth_png(depth_data).depth_m
        except ValueError as error:
            raise DatasetError(shard, f"{entry.key}: {error}", "bad_sample") from error
        if rgb.shape[:2] != depth_m.shape:
            raise DatasetError(shard, f"{entry.key}: image and depth differ in size", "bad_shape")
        return Labelled(entry.key, rgb, depth_m, _info(shard, entry.key).get("scene", "unknown"))


SHARDS = ShardFolder()


def _entries(shard: Path) -> list[Entry]:
    return [
        Entry(key, f"{shard.name}/{key}.jpg", f"{shard.name}/{key}.depth.png", _info(shard, key).get("split", ""))
        for key in _spans(str(shard))
    ]


def _info(shard: Path, key: str) -> dict[str, Any]:
    try:
        return json.loads(_member(shard, key, "json"))
    except ValueError as error:
        raise DatasetError(shard, f"{key}.json: {error}", "bad_sample") from error


def _member(shard: Path, key: str, field: str) -> bytes:
    span = _spans(str(shard))[key].get(field)
    if span is None:
        raise DatasetError(shard, f"has no {key}.{field}", "missing_file")
    offset, size = span
    with shard.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


@lru_cache(maxsize=8)
def _spans(shard: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Offset and size of every field of every sample, in the tar's order."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, mode="r:") as tar:
            for member in tar:
                key, field = base_plus_ext(member.name)
                if member.isreg() and key is not None and field is not None:
                    found.setdefault(key, {})[field] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(shard, " ".join(str(error).split()), "bad_shard") from error
    return found
