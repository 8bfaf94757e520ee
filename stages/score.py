"""Scores pseudo-labels: by a PatchGAN discriminator, as DAP (arXiv 2512.16913), or by the labeler's consistency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext
from ..models.data.depth_png import decode_depth_png
from ..models.inference.embedded import check_model_folder
from ..models.inference.predictor import QualityScorer
from ..models.labelers.load import check_labeler, function_hashes, make_labeler, split_reference, weights_of
from ..models.labelers.outputs import check_metric
from ..models.ranking.consistency import Views, agreement, confidence, estimate_views
from .batches.decoding import decode_image
from .batches.model_failure import model_failures_end_the_run

RankerKind = Literal["patchgan", "consistency"]


def check_ranker(where: str, ranker: RankerKind, model: str | None, views: Views | None) -> None:
    """Raises ValueError with one line for settings that a ranker does not have, or lacks."""
    if ranker == "patchgan" and not model:
        raise ValueError(f"{where}: patchgan needs a model, the discriminator")
    if ranker == "patchgan" and views:
        raise ValueError(f"{where}: views are for consistency; patchgan scores the label as it is")


@dataclass
class Score(PipelinedStage):
    """Frames and labels to `scores-<round>`: higher is the better label.

    `ranker` patchgan: how much a label looks like ground truth to the discriminator `model`. consistency: how far the
    label lies from what the labeler `model` says under `views`; without a model, what the label's JSON says of that
    already, if its step had views. `models.ranking` says what each can see.
    """

    name: ClassVar[str] = "score"

    model: AssetUri | None = None
    ranker: RankerKind = "patchgan"
    views: Views | None = None  # of consistency with a model; by default four turns and their mirror images
    round: int = 1
    batch_size: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ranker("score", self.ranker, self.model, self.views)
        if self.views and not self.model:
            raise ValueError("score: views need a model, the labeler; without one the views of the label count")

    @property
    def _labels(self) -> str:
        return f"labels-{self.round}"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("frames", self._labels) if self.model else (self._labels,)

    @property
    def writes(self) -> Column:
        return ParquetColumn(f"scores-{self.round}", pa.schema([("score", pa.float64())]))

    def assets(self) -> dict[str, str]:
        if self.ranker == "patchgan" or not self.model:
            return super().assets()
        weights = weights_of(self.model)
        return {"model": weights} if weights else {}

    def check(self) -> None:
        if self.ranker == "consistency" and self.model:
            check_metric(self.model, check_labeler(self.model))
            function_hashes([self.model])
        elif self.model:
            check_model_folder(self.model)

    def settings(self) -> dict[str, Any]:
        scheme = split_reference(self.model)[0] if self.model and self.ranker == "consistency" else ""
        return {**super().settings(), **({"model": scheme} if scheme else {})}

    def external(self) -> dict[str, Any]:
        return function_hashes([self.model]) if self.model and self.ranker == "consistency" else {}

    def setup(self, context: StageContext) -> None:
        weights = context.assets.get("model")
        if self.ranker == "patchgan":
            self._scorer = QualityScorer(context.assets["model"], self.device)
        elif self.model:
            self._views = self.views or Views()
            self._labeler = make_labeler(self.model, weights=weights, device=self.device, batch_size=self.batch_size)
            check_metric(self.model, self._labeler.output)

    def decode(self, sample: Sample) -> Any:
        """Frame and label, (H, W, 3) uint8 and (H, W) metres; without a model the spread of the label."""
        if not self.model:
            return self._spread(sample)
        rgb = decode_image(sample, "frames")
        return rgb if isinstance(rgb, Drop) else (rgb, decode_depth_png(sample[self._labels]["depth.png"]).depth_m)

    def predict(self, decoded: list[Any]) -> list[Any]:
        """Scores; with a labeler as the model what is to be compared, its estimates and the label."""
        if not self.model:
            return [confidence(spread) for spread in decoded]
        rgbs, labels_m = map(list, zip(*decoded, strict=True))
        with model_failures_end_the_run():
            if self.ranker == "patchgan":
                return self._scorer.score(rgbs, labels_m)
            return list(zip(estimate_views(self._labeler.estimate, rgbs, self._views), labels_m, strict=True))

    def encode(self, sample: Sample, result: Any) -> Row:
        if self.model and self.ranker == "consistency":
            estimates, label_m = result
            result = confidence(agreement(estimates, self._views).spread(label_m))
        return Row(sample.key, {"score": result})

    def _spread(self, sample: Sample) -> float | None:
        info = sample[self._labels]["json"]
        if "spread" not in info:
            raise ValueError(
                f"{self._labels} has no spread: give views to the step that labels, or a model, the labeler, to score"
            )
        return info["spread"]
