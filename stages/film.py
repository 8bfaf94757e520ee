"""Films simulated 360° videos: the stand-in for real footage, with the true depth of every frame kept beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ..engine.records.column import Column, FolderColumn, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.step import SourceStage
from ..engine.storage.hashing import canonical_json
from ..models.data.depth_png import encode_depth_png

if TYPE_CHECKING:
    from ..models.simulator.rendering.video import SimulatedVideo


@dataclass
class Film(SourceStage):
    """`videos` videos to `<column>`, one a shard: KEY.mp4, KEY.json, and KEY.truth.tar with NNNNNN.depth.png a frame.

    The truth is for evaluation alone; no stage of curation reads it.
    """

    name: ClassVar[str] = "film"
    version: ClassVar[int] = 2

    videos: int
    column: str = "footage"
    look: Literal["synthetic", "field"] = "field"
    height: int = 512
    seconds: float = 12.0
    fps: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.videos < 1 or self.fps <= 0 or self.seconds * self.fps < 1:
            raise ValueError("film: needs at least one video of at least one frame")
        if self.height < 16 or self.height % 2:
            raise ValueError("film: height must be even, and at least 16")

    @property
    def writes(self) -> Column:
        return FolderColumn(self.column)

    def shards(self) -> Sequence[str]:
        return [f"{index:06d}" for index in range(self.videos)]

    def source(self, shard: str) -> Iterator[Sample]:
        yield Sample(shard, {})

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        from ..models.simulator.rendering.video import simulate_video

        frames = round(self.seconds * self.fps)
        for sample in batch:
            video = simulate_video(self.seed, int(sample.key), self.look, self.height, frames, self.fps)
            info = canonical_json(video.info)
            yield Row(video.video_id, {"mp4": video.mp4, "truth.tar": _truth(video), "json": info})


def _truth(video: SimulatedVideo) -> bytes:
    """A tar with the true depth of every frame, keyed by the frame's number."""
    with tempfile.TemporaryDirectory() as scratch:
        writer = TarColumn("truth", ("depth.png",)).writer(Path(scratch))
        for number, depth_m in enumerate(video.frames_depth_m):
            writer.add(Row(f"{number:06d}", {"depth.png": encode_depth_png(depth_m)}))
        return writer.finish().read_bytes()
