"""Labelled panoramas, encoded, and packed by the project's own steps; rooms of boxes, for want of a ray tracer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import simplejpeg
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.records.column import Column, TarColumn
from dap_engine.engine.records.sample import Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import SourceStage
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.stages.pack import Pack, Source
from tests.models.panoramas import box_room

SHARDS = 4


@dataclass(frozen=True)
class Room:
    """Image (H, W, 3) uint8 and ray distance (H, W) in metres, inf beyond the range; and both encoded."""

    rgb: np.ndarray
    depth_m: np.ndarray
    jpeg: bytes
    depth_png: bytes


def rooms(count: int, height: int) -> list[Room]:
    """Rooms whose walls have a texture, so that a JPEG is about as large as a photograph's."""
    rng = np.random.Generator(np.random.PCG64(0))
    return [_room(rng, height) for _ in range(count)]


def _room(rng: np.random.Generator, height: int) -> Room:
    flat, depth_m = box_room(rng, height)
    texture = cv2.GaussianBlur(rng.normal(0, 60, flat.shape).astype(np.float32), (0, 0), 1.2)
    rgb = (flat + texture).clip(0, 255).astype(np.uint8)
    return Room(rgb, depth_m, simplejpeg.encode_jpeg(rgb, 90), encode_depth_png(depth_m))


@dataclass
class Rooms(SourceStage):
    """A column of so many samples, made of a few rooms over and over."""

    name: ClassVar[str] = "rooms"

    samples: int
    height: int
    different: int

    @property
    def writes(self) -> Column:
        return TarColumn("labelled-rooms", ("depth.png", "jpg", "json"))

    def shards(self) -> Sequence[str]:
        return ["000000"]

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(f"room-{number:06d}", {}) for number in range(self.samples))

    def process(self, batch: list[Sample]) -> Iterator[Row]:
        if not hasattr(self, "_rooms"):
            self._rooms = rooms(self.different, self.height)
        for sample in batch:
            room = self._rooms[int(sample.key.partition("-")[2]) % self.different]
            yield Row(sample.key, {"jpg": room.jpeg, "depth.png": room.depth_png, "json": {"split": "train"}})


def packed_rooms(folder: Path, samples: int, height: int, different: int) -> tuple[RunDir, str]:
    """A run directory, and the name of its packed column."""
    made = Rooms(samples, height, different)
    pack = Pack("rooms", [Source("labelled-rooms")], samples_per_shard=-(-samples // SHARDS))
    graph, run = build_graph([Node(step.name, step) for step in (made, pack)]), RunDir(str(folder))
    result = Runner(graph, run, InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)
    if result.unfinished:
        raise RuntimeError(f"cannot pack: {result.unfinished[0].error}")
    return run, pack.writes.name
