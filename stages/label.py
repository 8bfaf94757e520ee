"""Labels every frame with the depth that a model predicts: the pseudo-labels of DAP's stages (arXiv 2512.16913).

The model is ours, or one of others with metric depth under its scheme, as hf: and python: (`models.labelers.load`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ..engine.records.column import Column, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext
from ..models.data.depth_png import encode_depth_png, summarise_depth
from ..models.inference.embedded import EMBEDDED
from ..models.labelers.load import (
    Estimate,
    check_labeler,
    function_hashes,
    make_labeler,
    sees_whole_panoramas,
    split_reference,
    weights_of,
)
from ..models.labelers.outputs import OutputSetting, check_metric
from ..models.labelers.patches import Patches
from ..models.ranking.consistency import agreement, estimate_views
from ..models.ranking.views import Views
from .batches.model_failure import model_failures_end_the_run
from .batches.panoramas import OverPanoramas

_FIRST = 100
_LOG = logging.getLogger(__name__)


@dataclass
class Label(OverPanoramas, PipelinedStage):
    """Frames to depth maps of the same size: `labels-<round>`.

    With `views`, a label is the mean of what the model says of the frame turned and mirrored, and its JSON has the
    `spread` of that (`models.ranking.consistency`; null for a label without any distance), by which `score` can rank.
    """

    name: ClassVar[str] = "label"
    version: ClassVar[int] = 3

    model: AssetUri = EMBEDDED  # a folder, `run:models/NAME`, the small one that comes along, or hf:ID, python:M:F
    round: int = 1
    batch_size: int = 8
    device: str = "auto"
    patches: Patches | None = None  # a model of others sees perspective views of these, not the whole panorama
    output: OutputSetting = "auto"  # what a model of others gives
    views: Views | None = None  # so many predictions of each frame, such as {yaw: 4, flip: true}
    nearer_mask: bool = False  # leave without label what the model's range mask puts beyond its 10, 20 or 50 m

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patches and sees_whole_panoramas(self.model):
            raise ValueError(
                f"label: patches are for models of perspective pictures, but {self.model} sees whole panoramas"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        return self.image_columns

    @property
    def writes(self) -> Column:
        return TarColumn(f"labels-{self.round}", ("depth.png", "json"))

    def assets(self) -> dict[str, str]:
        weights = weights_of(self.model)
        return {"model": weights} if weights else {}

    def check(self) -> None:
        check_metric(self.model, check_labeler(self.model, self.output))
        function_hashes([self.model])

    def settings(self) -> dict[str, Any]:
        scheme, _ = split_reference(self.model)
        return {**super().settings(), **({"model": scheme} if scheme else {})}

    def external(self) -> dict[str, Any]:
        return function_hashes([self.model])

    def setup(self, context: StageContext) -> None:
        self._labels, self._labels_without_distance, self._counting = 0, 0, Lock()
        self._labeler = make_labeler(
            self.model,
            weights=context.assets.get("model"),
            device=self.device,
            batch_size=self.batch_size,
            patches=self.patches,
            output=self.output,
        )
        check_metric(self.model, self._labeler.output)

    def decode(self, sample: Sample) -> np.ndarray | Drop:
        return self.decode_panorama(sample)

    def predict(self, decoded: list[np.ndarray]) -> list[list[Estimate]]:
        """Of each frame an estimate a view, or just one."""
        with model_failures_end_the_run():
            if self.views:
                return estimate_views(self._labeler.estimate, decoded, self.views)
            return [[estimate] for estimate in self._labeler.estimate(decoded)]

    def encode(self, sample: Sample, result: list[Estimate]) -> Row:
        if self.views:
            found = agreement(result, self.views)
            depth_m = found.mean().masked(nearer=self.nearer_mask)
            spread = found.spread(depth_m)
            info = {"spread": round(spread, 6) if spread == spread else None}
        else:
            depth_m, info = result[0].masked(nearer=self.nearer_mask), {}
        summary = summarise_depth(depth_m)
        self._watch(summary["beyond_range"])
        return Row(sample.key, {"depth.png": encode_depth_png(depth_m), "json": {**summary, **info}})

    def _watch(self, beyond_range: float) -> None:
        """Says so once if the first labels of a worker hold no distance at all."""
        with self._counting:
            self._labels += 1
            self._labels_without_distance += beyond_range == 1
            is_odd = self._labels == self._labels_without_distance == _FIRST
        if is_odd:
            _LOG.warning("the first %d labels of %s are beyond the range throughout", _FIRST, self.model)
