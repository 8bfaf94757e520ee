"""Scores to compare a ranker with: at random, or by the truth, which only simulated footage has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.rows import read_rows
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.step import Stage, StageContext
from ..engine.storage.storage import Storage
from ..models.data.depth_png import decode_depth_png
from ..models.metrics.alignment import BEYOND_RANGE_M
from .footage.listing import Video
from .ranking.columns import scores_column
from .ranking.errors import label_errors


@dataclass
class ScoreControl(Stage):
    """Labels to `scores-<round>-<kind>`: `random`, by a hash of seed and key; `oracle`, −AbsRel by the footage's truth.

    For experiments: what the best ranking would be worth, and what any ranking has to beat.
    """

    name: ClassVar[str] = "score-control"

    kind: Literal["random", "oracle"]
    round: int = 1
    footage: str = "footage"  # the column of `film`, for the oracle
    seed: int = 0

    @property
    def _labels(self) -> str:
        return f"labels-{self.round}"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("frames", self._labels) if self.kind == "oracle" else (self._labels,)

    @property
    def writes(self) -> Column:
        return ParquetColumn(scores_column(self.round, self.kind), pa.schema([("score", pa.float64())]))

    def setup(self, context: StageContext) -> None:
        if self.kind == "oracle":
            self._truth = _Truth(context.storage, self.footage)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            yield Row(
                sample.key, {"score": self._oracle(sample) if self.kind == "oracle" else self._random(sample.key)}
            )

    def _random(self, key: str) -> float:
        return int.from_bytes(hashlib.sha256(f"{self.seed}:{key}".encode()).digest()[:6]) / 2**48

    def _oracle(self, sample: Sample) -> float:
        label_m = decode_depth_png(sample[self._labels]["depth.png"]).depth_m
        info = sample["frames"]["json"]
        truth_m = self._truth.depth_m(info["video_id"], info["frame_index"])
        size = (label_m.shape[1], label_m.shape[0])
        truth_m = cv2.resize(truth_m, size, interpolation=cv2.INTER_NEAREST_EXACT)
        abs_rel, _ = label_errors(np.where(np.isinf(label_m), np.float32(BEYOND_RANGE_M), label_m), truth_m)
        return -abs_rel


class _Truth:
    """The true depth of a film's frames; one video is held at a time."""

    def __init__(self, storage: Storage, column: str):
        self._storage = storage
        names = [name.removesuffix(".truth.tar") for name in storage.list(column) if name.endswith(".truth.tar")]
        self._paths = {Video("", f"{name}.mp4", -1).video_id: f"{column}/{name}.truth.tar" for name in names}
        self._held, self._frames = "", {}

    def depth_m(self, video_id: str, frame_index: int) -> np.ndarray:
        """(H, W) in metres; ValueError for a video that is no film of this run."""
        if video_id not in self._paths:
            raise ValueError(f"{video_id}: its truth is not known: the oracle is for footage that the run has filmed")
        if video_id != self._held:
            path = self._paths[video_id]
            with self._storage.open(path) as stream:
                rows = read_rows(path, stream)
                self._held, self._frames = video_id, {int(row.key): row.fields["depth.png"] for row in rows}
        return decode_depth_png(self._frames[frame_index]).depth_m
