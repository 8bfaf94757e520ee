"""A labeler for loose files: any model that gives metres, whoever made it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....models.labelers.load import Labeler, check_labeler, make_labeler
from ....models.labelers.outputs import check_metric
from ...errors import UsageError


class MetricLabeler:
    """Loads a model as `make_labeler` does; raises UsageError where that fails, or the model gives no metres."""

    def __init__(self, model: str, **settings: Any) -> None:
        self.model = model
        try:
            check_metric(model, check_labeler(model))
            self._labeler: Labeler = make_labeler(model, **settings)
        except (ValueError, OSError) as error:
            raise self._wrong(error) from error

    def depth_m(self, rgb: np.ndarray, *, nearer: bool = False) -> np.ndarray:
        """Ray distances (H, W) float32 of a panorama (H, W, 3) uint8: inf beyond the range, nan where there is none.

        `nearer` applies a range mask of less than the range. Raises UsageError if a function of the user's fails.
        """
        try:
            return self._labeler.estimate([rgb])[0].masked(nearer=nearer)
        except ValueError as error:
            raise self._wrong(error) from error

    def _wrong(self, error: Exception) -> UsageError:
        return UsageError(f"--model {self.model}: {' '.join(str(error).split())}")
