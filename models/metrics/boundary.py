"""Sharpness of depth maps: how well predicted occlusion contours agree with true ones.

After Depth Pro (Bochkovskii et al., arXiv 2410.02073, section 3.3): between neighbours i and j there is a contour where
c_t(i, j) = [d_j / d_i > t], and over all pairs of neighbours

    precision(t) = Σ c_t ∧ ĉ_t / Σ ĉ_t,    recall(t) = Σ c_t ∧ ĉ_t / Σ c_t,    F1(t) = their harmonic mean

which needs no scale. Figures are means over the ratios `RATIOS`, weighted by t. On a panorama the pixels on both sides
of the ±180° seam are neighbours; all pairs whose two true distances are known count.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .alignment import Alignment
from .table import ImageMetric, exact_mean, exact_sum

RATIOS = tuple(np.linspace(1.05, 1.25, 10).tolist())
"""From 5 % to 25 % farther, as Depth Pro's evaluation has them."""

_WEIGHTS = np.array(RATIOS) / np.sum(RATIOS)
_FIGURES = ("boundary_f1", "boundary_precision", "boundary_recall")


def boundary_counts(prediction_m: Tensor, target_m: Tensor, known: Tensor) -> Tensor:
    """Contours of maps (..., H, W) that agree, are predicted, and are true: (ratios, 3), over the pairs in `known`."""
    sides = [(_wrap_step(known, torch.logical_and), _wrap_step), (_down_step(known, torch.logical_and), _down_step)]
    predicted, true = (
        torch.cat([step(depth_m.log(), torch.sub)[pairs] for pairs, step in sides])
        for depth_m in (prediction_m.where(known, 1), target_m.where(known, 1))
    )
    counts = []
    for ratio in np.log(RATIOS):
        nearer, farther = (predicted < -ratio, true < -ratio), (predicted > ratio, true > ratio)
        agree = (nearer[0] & nearer[1]).sum() + (farther[0] & farther[1]).sum()
        counts.append(torch.stack([agree, nearer[0].sum() + farther[0].sum(), nearer[1].sum() + farther[1].sum()]))
    return torch.stack(counts)


def _wrap_step(values: Tensor, compare: Any) -> Tensor:
    """Every pixel with its neighbour to the right, the last column's being the first."""
    return compare(values.roll(-1, dims=-1), values)


def _down_step(values: Tensor, compare: Any) -> Tensor:
    return compare(values[..., 1:, :], values[..., :-1, :])


class BoundaryF1(ImageMetric):
    """Agreement of contours over a data set: the mean of the images that have one, and all pairs pooled.

    Give it the farthest of all distances where something is beyond the range: the edge of the sky is a contour, too.
    """

    def __init__(self, alignment: Alignment = "none") -> None:
        super().__init__(3 * len(RATIOS), alignment)

    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        return boundary_counts(prediction_m, target_m, mask)

    def compute(self) -> dict[str, Any]:
        """boundary_f1, boundary_precision and boundary_recall, and "pooled" with the same; nan without a contour."""
        counts = self.rows().reshape(-1, len(RATIOS), 3)
        return {**_named(exact_mean(_figures(counts))), "pooled": _named(_figures(exact_sum(counts)))}


def _figures(counts: np.ndarray) -> np.ndarray:
    """Counts (..., ratios, 3) to F1, precision and recall (..., 3); nan where no contour is true at any ratio."""
    agree, predicted, true = np.moveaxis(counts, -1, 0)
    precision, recall = agree / np.maximum(predicted, 1), agree / np.maximum(true, 1)
    f1 = 2 * agree / np.maximum(predicted + true, 1)
    figures = np.stack([(figure * _WEIGHTS).sum(axis=-1) for figure in (f1, precision, recall)], axis=-1)
    return np.where(true.any(axis=-1)[..., None], figures, np.nan)


def _named(figures: np.ndarray) -> dict[str, float]:
    return dict(zip(_FIGURES, figures.tolist(), strict=True))
