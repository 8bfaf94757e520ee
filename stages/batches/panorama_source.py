"""Source stages that bring panoramas into a run: a column like `frames`, with shards and keys of no other column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...engine.records.column import Column, TarColumn
from ...engine.records.sample import Drop, Row
from ...engine.steps.step import SourceStage, StageContext
from ...models.data.images import resize_rgb
from ...models.video.file import VideoError
from ...models.video.frames import VideoFrame
from ...models.video.spherical_metadata import Declared
from .checks import ChecksPanoramas, measured
from .model_failure import model_failures_end_the_run
from .splits import unit_hash

_COLUMN = re.compile(r"[a-z][a-z0-9]{0,39}")
_TAKEN = frozenset({"frames", "plan", "tags", "models", "reports", "receipts", "drops", "logs"})


@dataclass
class PanoramaSource(ChecksPanoramas, SourceStage):
    """Panoramas to `column`, JPEGs of (height, 2 * height) with their origin and measurements, as `extract` makes them.

    Shards are called `<column>-<n>`. A key is `<column>-<name>-0`: its panorama counts as a video of one frame.
    """

    column: str = field(kw_only=True)
    panoramas_per_shard: int = field(default=100, kw_only=True)
    validation_share: float = field(default=0.05, kw_only=True)  # of the panoramas, in the split `val`, by a hash
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _COLUMN.fullmatch(self.column) or self.column in _TAKEN:
            raise ValueError(f"{self.name}: column {self.column!r}: give a word of a-z and 0-9 that is not taken")
        if self.panoramas_per_shard < 1 or not 0 <= self.validation_share < 1:
            raise ValueError(f"{self.name}: panoramas_per_shard must be at least 1, validation_share in [0, 1)")

    @property
    def writes(self) -> Column:
        return TarColumn(self.column, ("jpg", "json"))

    def setup(self, context: StageContext) -> None:
        self.start_checks(context.assets)
        self._analyzer = self.analyzer()

    def key(self, name: str) -> str:
        """The key of a panorama; names have letters, digits and hyphens."""
        return f"{self.column}-{name}-0"

    def shard(self, number: int) -> str:
        """The id of a shard."""
        return f"{self.column}-{number:06d}"

    def checked(
        self, name: str, rgb: np.ndarray, info: Mapping[str, Any], declared: Declared | None = None
    ) -> Row | Drop:
        """The row of a picture, uint8 (H, W, 3) of any size, or the drop of one that is no whole, level panorama.

        `info` goes into its JSON, in which it may say the `split`.
        """
        rows, columns = rgb.shape[:2]
        small = resize_rgb(rgb, self.height, 2 * self.height)
        frame = VideoFrame(0, 0.0, display_aspect=columns / rows, rgb=small, declared=declared)
        try:
            with model_failures_end_the_run():
                analyzed = self._analyzer.analyze(frame)
        except VideoError as error:
            return Drop(self.key(name), error.code, error.detail)
        if analyzed.code:
            return Drop(self.key(name), analyzed.code, analyzed.detail)
        origin = {"video_id": f"{self.column}-{name}", "split": self._split_of(name), **info}
        return Row(self.key(name), {"jpg": self.encode_kept(analyzed), "json": {**origin, **measured(analyzed)}})

    def _split_of(self, name: str) -> str:
        return "val" if unit_hash(f"{self.seed}:{self.column}-{name}") < self.validation_share else "train"
