"""Plans a run over footage: which video belongs to which shard and which split, once and for all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from engine.assets import RUN_SCHEME
from engine.barrier import BarrierContext
from engine.columns import Column, ParquetColumn
from engine.stage import Barrier, Row
from stages.footage import VIDEO_SUFFIXES, Video, find_videos

_SCHEMA = pa.schema([("uri", pa.string()), ("bytes", pa.int64()), ("split", pa.string())])


@dataclass
class Plan(Barrier):
    """Videos to `plan`. The same videos give the same plan; more of them extend it without moving the earlier ones.

    `videos` is a folder, a glob pattern, a text or parquet list, an object-store URI, or `run:COLUMN`, footage that an
    earlier step wrote. A video is in the split `val` with probability `validation_share`, by a hash of its id.
    """

    name: ClassVar[str] = "plan"
    only_lists: ClassVar[bool] = True

    videos: str
    videos_per_shard: int = 16
    validation_share: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.videos_per_shard < 1 or not 0 <= self.validation_share < 1:
            raise ValueError("videos_per_shard must be at least 1, and validation_share in [0, 1)")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.videos.removeprefix(RUN_SCHEME),) if self._in_run else ()

    @property
    def writes(self) -> Column:
        return ParquetColumn("plan", _SCHEMA, key_name="video_id")

    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in super().settings().items() if key != "videos"}

    def external(self) -> dict[str, Any]:
        if self._in_run:
            return {}
        listing = "".join(f"{video.video_id} {video.bytes} {video.uri}\n" for video in self._outside)
        return {"videos": hashlib.sha256(listing.encode()).hexdigest()}

    def check(self) -> None:
        if not self._in_run:
            _ = self._outside

    def shards(self, context: BarrierContext) -> Sequence[str]:
        receipts = context.run.receipts("plan")
        current = all(receipt.fingerprint == context.basis.fingerprint for receipt in receipts.values())
        if current and sum(receipt.samples_out for receipt in receipts.values()) == len(self._found(context)):
            return list(receipts)  # planned whole, from these very videos: no shard need be opened
        return list(self._assign(context))

    def run(self, context: BarrierContext) -> None:
        assigned = self._assign(context)
        context.say(f"{sum(map(len, assigned.values()))} videos in {len(assigned)} shards")
        for shard, videos in assigned.items():
            with context.scratch() as scratch:
                writer = self.writes.writer(scratch)
                for video in videos:
                    fields = {"uri": video.uri, "bytes": video.bytes, "split": self.split_of(video.video_id)}
                    writer.add(Row(video.video_id, fields))
                context.commit(shard, writer.finish(), len(videos), len(videos))

    def split_of(self, video_id: str) -> str:
        """`train` or `val`, fixed for a video and a seed, whatever else is planned."""
        digest = hashlib.sha256(f"{self.seed}:{video_id}".encode()).digest()
        return "val" if int.from_bytes(digest[:8]) < self.validation_share * 2**64 else "train"

    @property
    def _in_run(self) -> bool:
        return self.videos.startswith(RUN_SCHEME)

    @cached_property
    def _outside(self) -> list[Video]:
        return find_videos(self.videos)

    def _found(self, context: BarrierContext) -> list[Video]:
        if not self._in_run:
            return self._outside
        column = self.reads[0]
        files = {f"{shard}/{name}": size for shard in context.inputs[column] for name, size in _files(context, shard)}
        return [Video(f"{RUN_SCHEME}{column}/{name}", name, size) for name, size in sorted(files.items())]

    def _assign(self, context: BarrierContext) -> dict[str, list[Video]]:
        """Videos by shard, sorted: those planned before stay where they are, new ones fill new shards."""
        found = {video.video_id: video for video in self._found(context)}
        before = context.run.receipts("plan")
        assigned: dict[str, list[Video]] = {}
        for shard, receipt in before.items():
            ids = context.run.table(receipt)["video_id"].to_pylist()
            assigned[shard] = [found.pop(video_id) for video_id in ids if video_id in found]
        first_free = max(map(int, before), default=-1) + 1
        new = sorted(found.values(), key=lambda video: video.video_id)
        for number, first in enumerate(range(0, len(new), self.videos_per_shard), start=first_free):
            assigned[f"{number:06d}"] = new[first : first + self.videos_per_shard]
        return assigned


def _files(context: BarrierContext, shard: str) -> list[tuple[str, int]]:
    (column,) = context.inputs
    listed = context.run.storage.list(context.inputs[column][shard].output.path)
    return [(name, size) for name, size in listed.items() if "." + name.rsplit(".", 1)[-1] in VIDEO_SUFFIXES]
