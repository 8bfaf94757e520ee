"""Labels every frame with the depth that a model predicts: the pseudo-labels of DAP's stages (arXiv 2512.16913)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from engine.columns import Column, TarColumn
from engine.stage import Drop, Row, Sample, Stage
from models.depth_png import encode_depth_png
from models.embedded import EMBEDDED, check_model_folder, model_place
from models.inference import DepthPredictor
from stages.images import decode_images


@dataclass
class Label(Stage):
    """Frames to depth maps of the same size: `labels-<round>`."""

    name: ClassVar[str] = "label"

    model: str = EMBEDDED  # a model folder, `run:models/NAME`, or the small one that comes with the package
    round: int = 1
    batch_size: int = 8
    device: str = "auto"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("frames",)

    @property
    def writes(self) -> Column:
        return TarColumn(f"labels-{self.round}", ("depth.png", "json"))

    def assets(self) -> dict[str, str]:
        return {"model": model_place(self.model)}

    def check(self) -> None:
        check_model_folder(self.assets()["model"])

    def setup(self, assets: Mapping[str, str]) -> None:
        self._predictor = DepthPredictor(assets["model"], self.device, batch_size=self.batch_size)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        samples, rgbs, drops = decode_images(batch, "frames")
        yield from drops
        for sample, prediction in zip(samples, self._predictor.predict(rgbs), strict=True):
            depth_m = prediction.masked_depth_m()
            yield Row(sample.key, {"depth.png": encode_depth_png(depth_m), "json": summarise_depth(depth_m)})


def summarise_depth(depth_m: np.ndarray) -> dict[str, Any]:
    """Least, middle and greatest distance in metres, None where all is beyond the range, and the share that is."""
    near_m = depth_m[np.isfinite(depth_m)]
    names, quantiles = ("min_m", "median_m", "max_m"), (0.0, 0.5, 1.0)
    values = [round(float(v), 3) for v in np.quantile(near_m, quantiles)] if near_m.size else [None] * 3
    return {**dict(zip(names, values, strict=True)), "beyond_range": round(1 - near_m.size / depth_m.size, 4)}
