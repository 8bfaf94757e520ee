"""Scores pseudo-labels by a PatchGAN discriminator trained on true against predicted depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import Stage, StageContext
from ..models.data.depth_png import decode_depth_png
from ..models.inference.embedded import check_model_folder
from ..models.inference.predictor import QualityScorer
from .footage.frames import decode_images
from .model_failure import model_failures_end_the_run


@dataclass
class Score(Stage):
    """Frames and labels to `scores-<round>`: higher is the better label."""

    name: ClassVar[str] = "score"

    model: AssetUri
    round: int = 1
    batch_size: int = 8
    device: str = "auto"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("frames", f"labels-{self.round}")

    @property
    def writes(self) -> Column:
        return ParquetColumn(f"scores-{self.round}", pa.schema([("score", pa.float64())]))

    def check(self) -> None:
        check_model_folder(self.model)

    def setup(self, context: StageContext) -> None:
        self._scorer = QualityScorer(context.assets["model"], self.device)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        samples, rgbs, drops = decode_images(batch, "frames")
        yield from drops
        depths = [decode_depth_png(sample[f"labels-{self.round}"]["depth.png"]).depth_m for sample in samples]
        with model_failures_end_the_run():
            scores = self._scorer.score(rgbs, depths)
        for sample, score in zip(samples, scores, strict=True):
            yield Row(sample.key, {"score": score})
