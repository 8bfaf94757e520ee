"""Errors of disparity, in pixels, as stereo benchmarks give them.

epe_px     mean of |d̂ − d| (the end-point error)
bad_n      share of pixels with |d̂ − d| > n, for n of 1, 2 and 3 pixels
d1         share of pixels with |d̂ − d| > 3 and |d̂ − d| > d / 20 (KITTI 2015, Menze and Geiger)
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .table import ImageMetric, exact_mean, exact_sum

DISPARITY_NAMES = ("epe_px", "bad_1", "bad_2", "bad_3", "d1")


class DisparityErrors(ImageMetric):
    """Errors over a data set: the mean of every image's, and those of all pixels pooled."""

    def __init__(self) -> None:
        super().__init__(1 + len(DISPARITY_NAMES))

    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        """Sums over the mask of disparities (H, W) in pixels: of one, and of what is averaged."""
        true_px = target_m[mask]
        error_px = (prediction_m[mask] - true_px).abs()
        bad = [error_px > limit for limit in (1, 2, 3)]
        wrong = bad[-1] & (error_px > true_px / 20)
        return torch.stack([values.double().sum() for values in (torch.ones_like(error_px), error_px, *bad, wrong)])

    def compute(self) -> dict[str, Any]:
        """`DISPARITY_NAMES`, and "pooled" with the same; nan without an image."""
        rows = self.rows()
        return {**_named(exact_mean(_means(rows))), "pooled": _named(_means(exact_sum(rows)))}


def _means(sums: np.ndarray) -> np.ndarray:
    count = sums[..., :1]
    return np.where(count > 0, sums[..., 1:] / np.maximum(count, 1), np.nan)


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(DISPARITY_NAMES, values.tolist(), strict=True))
