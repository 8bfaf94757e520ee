"""Bringing predictions to the scale of the truth before they are measured, image by image, over the measured pixels.

    none         p
    median       p · median(t) / median(p)
    scale-shift  a p + b with the a, b that minimise Σ (a p + b − t)²
    disparity    1 / (a p + b) with the a, b that minimise Σ (a p + b − 1/t)²: p is an inverse distance up to scale and
                 shift, as affine-invariant networks predict it (MiDaS, Ranftl et al., arXiv 1907.01341, eq. 6)

Least squares may end at or beyond zero: distances are kept to at least 1 mm, inverse ones to those of at most 100 m.
For the median, a prediction nearer than 1 mm counts as 1 mm, so that one that is 0 nearly everywhere has a scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Alignment = Literal["none", "median", "scale-shift", "disparity"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

NEAREST_M = 1e-3
BEYOND_RANGE_M = 100.0
"""What a distance of inf (beyond the range) counts as, as in the published evaluation."""


def align(prediction: Tensor, target_m: Tensor, mask: Tensor, alignment: Alignment) -> Tensor:
    """Predictions (..., H, W), each map aligned to its truth over its mask, as float64 distances in metres.

    A prediction of inf counts as 100 m. Without alignment the prediction is given back as it is.
    """
    if alignment == "none":
        return prediction
    p = prediction.double().masked_fill(prediction.isposinf(), BEYOND_RANGE_M)
    t, mask = target_m.double(), mask.bool()
    if alignment == "median":
        p = p.clamp_min(NEAREST_M)
        return p * (_median(t, mask) / _median(p, mask))[..., None, None]
    if alignment == "scale-shift":
        return _fitted(p, t, mask).clamp_min(NEAREST_M)
    return 1 / _fitted(p, 1 / t, mask).clamp(1 / BEYOND_RANGE_M, 1 / NEAREST_M)


def _median(values: Tensor, mask: Tensor) -> Tensor:
    """Median over the mask of maps (..., H, W), the mean of the middle two of an even number."""
    import torch

    ordered = values.masked_fill(~mask, math.inf).flatten(-2).sort(dim=-1).values
    count = mask.flatten(-2).sum(dim=-1, keepdim=True)
    middle = torch.cat([(count - 1).clamp_min(0) // 2, count // 2], dim=-1).clamp_max(ordered.shape[-1] - 1)
    return ordered.gather(-1, middle).mean(dim=-1)


def _fitted(p: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """a·p + b of maps (..., H, W), nearest to t in least squares over the mask; a = 0 for a constant p."""

    def mean(values: Tensor) -> Tensor:
        return values.where(mask, 0).sum(dim=(-2, -1), keepdim=True) / mask.sum(dim=(-2, -1), keepdim=True)

    centre, level = mean(p), mean(t)
    spread = mean((p - centre).square())
    scale = mean((p - centre) * (t - level)) / spread.where(spread > 0, 1)
    return scale * (p - centre) + level
