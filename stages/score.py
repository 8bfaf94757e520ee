"""Scores pseudo-labels: by a PatchGAN discriminator, as DAP (arXiv 2512.16913), or by another ranker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext
from ..models.data.depth_png import decode_depth_m
from ..models.labelers.patches import Patches
from ..models.ranking.consistency import confidence
from ..models.ranking.views import Views
from .batches.model_failure import model_failures_end_the_run
from .batches.panoramas import OverPanoramas
from .ranking.columns import scores_column
from .ranking.ranker import Ranker, RankerKind


@dataclass
class Score(OverPanoramas, PipelinedStage):
    """Frames and labels to `scores-<round>`: higher is the better label.

    `ranker`, `model`, `teachers` and `views` say who judges (`stages.ranking.ranker`). Consistency without a model
    takes what the label's JSON says of it already, if its step had views. Several rankers of one run need a `variant`
    each: the column is `scores-<round>-<variant>` then, and `select` takes one of them, or several.
    """

    name: ClassVar[str] = "score"

    model: AssetUri | None = None
    ranker: RankerKind = "patchgan"
    teachers: dict[str, AssetUri] = field(default_factory=dict)
    views: Views | None = None
    patches: Patches | None = None
    round: int = 1
    variant: str = ""
    batch_size: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ranker.check_settings("score")
        if self.views and not self._asks_networks:
            raise ValueError("score: views need a model, the labeler; without one the views of the label count")

    @property
    def _ranker(self) -> Ranker:
        return Ranker(self.ranker, self.model, self.teachers, self.views, self.patches)

    @property
    def _asks_networks(self) -> bool:
        return bool(self.model or self.teachers)

    @property
    def _labels(self) -> str:
        return f"labels-{self.round}"

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.image_columns, self._labels) if self._asks_networks else (self._labels,)

    @property
    def writes(self) -> Column:
        return ParquetColumn(scores_column(self.round, self.variant), pa.schema([("score", pa.float64())]))

    def assets(self) -> dict[str, str]:
        return dict(self._ranker.assets())

    def check(self) -> None:
        self._ranker.check()

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self._ranker.schemes()}

    def external(self) -> dict[str, Any]:
        return self._ranker.functions()

    def setup(self, context: StageContext) -> None:
        if self._asks_networks:
            self._scorer = self._ranker.load(context.assets, self.device, self.batch_size)

    def decode(self, sample: Sample) -> Any:
        """Frame and label, (H, W, 3) uint8 and (H, W) metres; where no network is asked the spread of the label."""
        if not self._asks_networks:
            return self._spread(sample)
        rgb = self.decode_panorama(sample)
        return rgb if isinstance(rgb, Drop) else (rgb, decode_depth_m(sample[self._labels]["depth.png"]))

    def predict(self, decoded: list[Any]) -> list[float]:
        """The scores."""
        if not self._asks_networks:
            return [confidence(spread) for spread in decoded]
        rgbs, labels_m = map(list, zip(*decoded, strict=True))
        with model_failures_end_the_run():
            return self._scorer.score(rgbs, labels_m)

    def encode(self, sample: Sample, result: float) -> Row:
        return Row(sample.key, {"score": result})

    def _spread(self, sample: Sample) -> float | None:
        info = sample[self._labels]["json"]
        if "spread" not in info:
            raise ValueError(
                f"{self._labels} has no spread: give views to the step that labels, or a model, the labeler, to score"
            )
        return info["spread"]
