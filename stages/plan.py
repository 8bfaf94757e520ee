"""Plans a run over footage: which video belongs to which shard and which split, once and for all."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row
from ..engine.rundir.commit import delete_output
from ..engine.rundir.drops import read_drops
from ..engine.steps.assets import RUN_SCHEME
from ..engine.steps.barrier import Barrier, BarrierContext
from .batches.splits import unit_hash
from .footage.assignment import extend_assignment
from .footage.fetch import resolved
from .footage.listing import RIGHTS, VIDEO_SUFFIXES, Video, find_videos, unlicensed
from .footage.video_info import ReadVideoInfo, VideoInfo, read_video_infos_in_child
from .footage.web import is_on_web

_SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("bytes", pa.int64()),
        ("split", pa.string()),
        ("seconds", pa.float64()),  # null if unknown
        ("content", pa.string()),  # a hash of samples of the file, empty where it could not be read
    ]
)
_LISTED = pa.schema(
    [*((name, pa.float64()) for name in ("start_s", "end_s")), *((name, pa.string()) for name in RIGHTS)]
)
"""Further columns of shards in which a list says so of a video."""
_BYTES_PER_S = 2_500_000  # of a video of unknown length: 20 Mbit/s, as is usual for 4K panoramas
_ON_THE_WEB_S = 600.0  # a video of a web server, which nobody has looked at
_FEW = 64  # videos whose headers the driver reads by itself
_PER_SHARD = 256  # videos of one piece of work on the cluster
_CLOCKS_NS = 600 * 10**9  # by which the clocks of two storages may differ


@dataclass
class Plan(Barrier):
    """Videos to `plan`. The same videos give the same plan; new ones extend it and move no earlier one.

    `videos` is a folder, a glob pattern, a text or parquet list, an object-store URI, or `run:COLUMN`, footage that an
    earlier step wrote. A shard holds `seconds_per_shard` of footage and `videos_per_shard` videos at most, but for a
    video that is longer by itself. A video is in the split `val` with probability `validation_share`, by a hash of
    its id; copies of a video under other names are in its split. Where all would be in one split, the new one whose
    hash is nearest to the other split goes there. A list may say the split itself. Of videos whose `license` in the
    list is none of `licenses`, nothing is used; without `licenses`, none is looked at.
    """

    name: ClassVar[str] = "plan"
    version: ClassVar[int] = 2
    only_lists: ClassVar[bool] = True

    videos: str
    videos_per_shard: int = 256
    seconds_per_shard: float = 3600.0
    validation_share: float = 0.05
    seed: int = 0
    licenses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.videos_per_shard < 1 or not 0 <= self.validation_share < 1:
            raise ValueError("videos_per_shard must be at least 1, and validation_share in [0, 1)")
        if self.seconds_per_shard < 1:
            raise ValueError("seconds_per_shard must be at least 1")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.videos.removeprefix(RUN_SCHEME),) if self._in_run else ()

    @property
    def writes(self) -> Column:
        return ParquetColumn("plan", _SCHEMA, key_name="video_id")

    def settings(self) -> dict[str, Any]:
        left_out = ("videos",) if self.licenses else ("videos", "licenses")
        return {key: value for key, value in super().settings().items() if key not in left_out}

    def external(self) -> dict[str, Any]:
        if self._in_run:
            return {}
        lines = (
            f"{video.video_id} {video.bytes} {video.mtime_ns} {video.uri}{_said(video)}\n" for video in self._outside
        )
        return {"videos": hashlib.sha256("".join(lines).encode()).hexdigest()}

    def check(self) -> None:
        if not self._in_run:
            _ = self._outside

    def shards(self, context: BarrierContext) -> Sequence[str]:
        receipts = context.run.receipts("plan")
        current = all(receipt.fingerprint == context.basis.fingerprint for receipt in receipts.values())
        if current and receipts.samples[0] == len(self._found(context)):
            return list(receipts)  # all of these videos are planned: no shard need be opened
        return list(self._assign(self._found(context), _EarlierPlan(context), {}))  # a forecast: new videos by size

    def run(self, context: BarrierContext) -> None:
        found, earlier = self._found(context), _EarlierPlan(context)
        known = {video.video_id: earlier.info_of(video) for video in found}
        read = _video_infos(context, [video for video in found if known[video.video_id] is None])
        infos = {video_id: info or read.get(video_id, VideoInfo()) for video_id, info in known.items()}
        licensed = [video for video in found if not self._unlicensed(video)]
        assigned, splits = self._assign(found, earlier, infos), self._splits(licensed, infos, earlier)
        for note in () if self._in_run else self._search[1]:
            context.log(note)
        context.log(f"{sum(map(len, assigned.values()))} videos in {len(assigned)} shards")
        if copies := len(infos) - len({info.content or video_id for video_id, info in infos.items()}):
            context.log(f"{copies} videos have the content of another one: they share its split")
        if self.validation_share and len(set(splits.values())) == 1 and not any(video.split for video in licensed):
            context.log(f"warning: all footage is in the split {splits[min(splits)]}: there is but one video")
        for shard, videos in assigned.items():
            drops = [drop for video in videos if (drop := self._unlicensed(video))]
            dropped = {drop.key for drop in drops}
            kept = [video for video in videos if video.video_id not in dropped]
            extra = [column for column in _LISTED if any(column.name in video.listed for video in kept)]
            with context.scratch() as scratch:
                writer = ParquetColumn("plan", pa.schema([*_SCHEMA, *extra]), key_name="video_id").writer(scratch)
                for video in kept:
                    fields = _fields(video, infos[video.video_id], splits[video.video_id])
                    listed = {column.name: getattr(video, column.name) for column in extra}
                    writer.add(Row(video.video_id, {**fields, **listed}))
                context.commit(shard, writer.finish(), len(videos), len(kept), drops)

    def split_of(self, video_id: str) -> str:
        """`train` or `val`, fixed for a video and a seed, whatever else is planned."""
        return "val" if self._place_of(video_id) < self.validation_share else "train"

    def _place_of(self, video_id: str) -> float:
        """In [0, 1), by a hash."""
        return unit_hash(f"{self.seed}:{video_id}")

    def _unlicensed(self, video: Video) -> Drop | None:
        return unlicensed(video, self.licenses, video.video_id)

    def _splits(self, videos: Sequence[Video], infos: Mapping[str, VideoInfo], earlier: _EarlierPlan) -> dict[str, str]:
        """The split of each video: its list's, or that of the first of the same content; those planned before lead.

        Segments of a video are of one split, too.
        """
        listed = {video.video_id: video.split for video in videos if video.split}
        contents = {video.video_id: infos[video.video_id].content or video.uri for video in videos}
        firsts: dict[str, str] = {}
        for video_id in sorted(contents, key=lambda video_id: (video_id not in earlier.planned, video_id)):
            firsts.setdefault(contents[video_id], video_id)
        known = earlier.splits(self.seed, self.validation_share) | listed
        splits = {first: known.get(first) or self.split_of(first) for first in firsts.values()}
        if self.validation_share and len(splits) > 1 and len(set(splits.values())) == 1:
            new = sorted((first for first in splits if first not in known), key=self._place_of)
            if new and "train" in splits.values():
                splits[new[0]] = "val"
            elif new:
                splits[new[-1]] = "train"
        return {video_id: listed.get(video_id) or splits[firsts[content]] for video_id, content in contents.items()}

    @property
    def _in_run(self) -> bool:
        return self.videos.startswith(RUN_SCHEME)

    @cached_property
    def _search(self) -> tuple[list[Video], list[str]]:
        """The videos that lie outside of the run, and what is to be said of the rest."""
        notes: list[str] = []
        return find_videos(self.videos, notes), notes

    @property
    def reachable(self) -> int | None:
        """How many videos there are outside of the run; None where they are out of reach, or in the run."""
        try:
            return None if self._in_run else len(self._outside)
        except (ValueError, OSError):
            return None

    @property
    def _outside(self) -> list[Video]:
        return self._search[0]

    def _found(self, context: BarrierContext) -> list[Video]:
        if not self._in_run:
            return self._outside
        column = self.reads[0]
        files = {f"{shard}/{name}": size for shard in context.inputs[column] for name, size in _files(context, shard)}
        return [Video(f"{RUN_SCHEME}{column}/{name}", name, size) for name, size in sorted(files.items())]

    def _assign(
        self, found: Sequence[Video], earlier: _EarlierPlan, infos: Mapping[str, VideoInfo]
    ) -> dict[str, list[Video]]:
        """Videos by shard: those planned before stay where they are, new ones fill new shards."""
        videos = {video.video_id: video for video in found}
        seconds = {video_id: _seconds(video, infos.get(video_id, VideoInfo())) for video_id, video in videos.items()}
        shards = extend_assignment(earlier.shards, seconds, self.seconds_per_shard, self.videos_per_shard)
        return {shard: [videos[video_id] for video_id in video_ids] for shard, video_ids in shards.items()}


class _EarlierPlan:
    """The plan that a run has already, if it has one."""

    def __init__(self, context: BarrierContext) -> None:
        self.shards: dict[str, list[str]] = {}
        self._rows: dict[str, tuple[Mapping[str, Any], int]] = {}  # with the time of writing, in ns
        self._settings: list[Mapping[str, Any]] = []
        written = context.run.storage.entries("plan")
        for shard, receipt in context.run.receipts("plan").items():
            rows = context.run.table(receipt).to_pylist()
            dropped = [drop.key for drop in read_drops(context.run, receipt)]  # they keep their place
            self.shards[shard] = sorted([*(row["video_id"] for row in rows), *dropped])
            self._settings.append(receipt.basis.settings)
            entry = written.get(receipt.output.path.removeprefix("plan/"))
            self._rows |= {row["video_id"]: (row, entry.mtime_ns if entry else 0) for row in rows}

    @property
    def planned(self) -> Collection[str]:
        """The ids of its videos."""
        return self._rows.keys()

    def splits(self, seed: int, validation_share: float) -> dict[str, str]:
        """By video, where they were drawn with these settings."""
        drawn = {"seed": seed, "validation_share": validation_share}
        if any(settings.get(name) != value for settings in self._settings for name, value in drawn.items()):
            return {}
        return {video_id: row["split"] for video_id, (row, _) in self._rows.items()}

    def info_of(self, video: Video) -> VideoInfo | None:
        """What the plan or its list knows of a video; None if nothing, or if its file may have changed since."""
        row, written_ns = self._rows.get(video.video_id, ({}, 0))
        if video.seconds is not None:  # from its list
            return VideoInfo(video.seconds, video.bytes, row.get("content", ""))
        unchanged = video.bytes in (-1, row.get("bytes")) and video.mtime_ns < written_ns - _CLOCKS_NS
        return VideoInfo(row["seconds"], row["bytes"], row["content"]) if unchanged and row.get("content") else None


def _fields(video: Video, info: VideoInfo, split: str) -> dict[str, Any]:
    size = video.bytes if video.bytes >= 0 else info.bytes
    return {"uri": video.uri, "bytes": size, "split": split, "seconds": info.seconds, "content": info.content}


def _said(video: Video) -> str:
    """What its list says of a video, beside what was looked at before lists had a say; mostly nothing."""
    said = video.listed | ({"split": video.split} if video.split else {})
    return f" {json.dumps(said, sort_keys=True)}" if said else ""


def _seconds(video: Video, info: VideoInfo) -> float:
    """The length of a video or its segment, estimated from its size where it is unknown."""
    seconds = video.seconds if info.seconds is None else info.seconds
    if seconds is None and is_on_web(video.uri):
        seconds = _ON_THE_WEB_S
    elif seconds is None:
        seconds = max(video.bytes, info.bytes, 0) / _BYTES_PER_S or math.inf
    wanted = min(seconds, video.end_s or math.inf) - (video.start_s or 0.0)
    return max(wanted, 0.0) if math.isfinite(wanted) else 0.0


def _video_infos(context: BarrierContext, videos: Sequence[Video]) -> dict[str, VideoInfo]:
    """What the headers of videos say, by id. Many are read on the cluster."""
    if not videos:
        return {}
    uris = {video.video_id: video.uri for video in videos}
    if len(uris) <= _FEW:
        infos = (
            read_video_infos_in_child([resolved(uri, context.run.storage.uri) for uri in uris.values()]) if uris else []
        )
        return dict(zip(uris, infos, strict=True))
    ids = sorted(uris)
    parts = [ids[first : first + _PER_SHARD] for first in range(0, len(ids), _PER_SHARD)]
    stage = ReadVideoInfo({f"{n:06d}": {video_id: uris[video_id] for video_id in part} for n, part in enumerate(parts)})
    context.map_stage(stage, stage.shards())
    infos = {}
    for receipt in list(context.run.receipts(stage.writes.name).values()):
        infos |= {
            row.key: VideoInfo(row.fields["seconds"], row.fields["bytes"], row.fields["content"])
            for row in context.run.rows(receipt)
        }
        delete_output(context.run, receipt)
    return infos


def _files(context: BarrierContext, shard: str) -> list[tuple[str, int]]:
    (column,) = context.inputs
    listed = context.run.storage.list(context.inputs[column][shard].output.path)
    return [(name, size) for name, size in listed.items() if "." + name.rsplit(".", 1)[-1] in VIDEO_SUFFIXES]
