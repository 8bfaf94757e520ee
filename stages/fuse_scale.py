"""Makes the scale of labels steady over each shot of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, ClassVar

import numpy as np

from ..engine.records.column import Column, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.step import Stage
from ..models.data.depth_png import decode_depth_m, encode_depth_png, summarise_depth
from ..models.labelers.shot_scale import scale_step, steady_factors
from .batches.panoramas import OverPanoramas


@dataclass
class FuseScale(OverPanoramas, Stage):
    """Labels of round `labels` to those of `round`, each multiplied by a factor that its JSON tells: `scale_factor`.

    Frames of one video and shot go together; a shot is cut where it goes on after `batch_size` frames.
    """

    name: ClassVar[str] = "fuse-scale"
    version: ClassVar[int] = 1
    whole_batches: ClassVar[bool] = True

    labels: int = 1
    round: int = 2
    window: int = 4  # frames to either side that a frame's scale is the mean of
    batch_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels == self.round or self.window < 1 or self.batch_size < 2:
            raise ValueError("fuse-scale: needs a round of its own, a window of 1 frame and a batch_size of 2 at least")

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.image_columns, f"labels-{self.labels}")

    @property
    def writes(self) -> Column:
        return TarColumn(f"labels-{self.round}", ("depth.png", "json"))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for _, shot in groupby(batch, key=self._shot_of):
            yield from self._fused(list(shot))

    def _fused(self, shot: list[Sample]) -> Iterator[Row]:
        labels = [sample[f"labels-{self.labels}"] for sample in shot]
        steps = [scale_step(one, other) for one, other in pairwise(decode_depth_m(of["depth.png"]) for of in labels)]
        for sample, label, factor in zip(shot, labels, steady_factors(steps, self.window), strict=True):
            depth_m = decode_depth_m(label["depth.png"]) * np.float32(factor)
            info = {**label["json"], **summarise_depth(depth_m), "scale_factor": round(float(factor), 6)}
            yield Row(sample.key, {"depth.png": encode_depth_png(depth_m), "json": info})

    def _shot_of(self, sample: Sample) -> tuple[Any, Any]:
        """What frames of one shot have in common; pictures that are of no video are by themselves."""
        info = next(sample[column]["json"] for column in self.image_columns if column in sample.columns)
        return (info["video_id"], info["shot"]) if "shot" in info else (sample.key, None)
