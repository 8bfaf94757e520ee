"""Losses up to an unknown scale and shift, and of features: those of the Depth Anything recipes.

They are meant for disparity (inverse distance), where what is beyond the range is simply 0. Weights, and nan and
inf, are treated as in `losses.py`: pixels of weight 0 and those without a finite truth are ignored, a loss without any
pixel is 0, and a prediction of nan or inf where it counts makes the loss nan.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry.equirectangular import working_dtype
from .losses import EPSILON, Pool, alone, weighted_mean

SCALES = 4


def affine_invariant_loss(prediction: Tensor, target: Tensor, weight: Tensor, *, noisy_share: float = 0.0) -> Tensor:
    """Affine-invariant loss (arXiv 1907.01341, 2401.10891) of every image, (B,):  L = wmean( |x̂* − x*| ).

    x* = (x − t) / s is `normalised` for prediction and target apart: no scale and no shift of either costs anything.
    The `noisy_share` of the pixels, those of the largest errors, is left out of the mean.
    """
    weight = weight * target.isfinite()
    error = normalised(prediction, weight) - normalised(target, weight)
    return weighted_mean(error.abs(), without_noisiest(error, weight, noisy_share))


@torch.no_grad()
def without_noisiest(error: Tensor, weight: Tensor, share: float) -> Tensor:
    """The weight, but 0 for a share of each image's pixels: those of the largest |error| (trimmed loss of MiDaS).

    Depth Anything V2 (arXiv 2406.09414) leaves out 10 % of a pseudo-label as potentially noisy.
    """
    if not share:
        return weight
    known = weight > 0
    ordered = error.abs().masked_fill(~known, torch.inf).flatten(1).sort(dim=1).values
    count = known.flatten(1).sum(dim=1, keepdim=True)
    last_kept = (count - (share * count).long() - 1).clamp_min(0)
    return weight * (error.abs() <= ordered.gather(1, last_kept)[..., None])


def normalised(values: Tensor, weight: Tensor) -> Tensor:
    """(x − t) / s of maps (B, H, W), t = median of the pixels with a weight, s = wmean( |x − t| ); 0 elsewhere."""
    known = weight > 0
    values = values.to(working_dtype(values.dtype))
    middle = values.masked_fill(~known, torch.nan).flatten(1).nanmedian(dim=1).values
    middle = middle.where(known.flatten(1).any(dim=1), 0.0)[:, None, None]
    centred = (values - middle).where(known, 0.0)
    return centred / weighted_mean(centred.abs(), weight).clamp_min(EPSILON)[:, None, None]


def gradient_matching_loss(
    prediction: Tensor, target: Tensor, weight: Tensor, *, scales: int = SCALES, noisy_share: float = 0.0
) -> Tensor:
    """Multi-scale gradient matching (arXiv 1907.01341) of every image, (B,):  L = Σₖ wmean( |∇ₓRₖ| + |∇ᵧRₖ| ).

    R = x̂* − x* (see `normalised`); Rₖ is every 2ᵏ-th row and column of it, k < `scales`. Differences to the next
    column go around the seam; they count by the weight of the first pixel, where the second has one, too. The
    `noisy_share` of the pixels, those of the largest |R|, is left out.
    """
    weight = weight * target.isfinite()
    error = normalised(prediction, weight) - normalised(target, weight)
    weight = without_noisiest(error, weight, noisy_share)
    steps = [2**scale for scale in range(scales) if 2**scale < error.shape[-2]]
    return torch.stack([_roughness(error[:, ::step, ::step], weight[:, ::step, ::step]) for step in steps]).sum(dim=0)


def _roughness(error: Tensor, weight: Tensor) -> Tensor:
    known = weight > 0
    across = (error.roll(-1, -1) - error).abs() * known.roll(-1, -1)
    down = (error[:, 1:] - error[:, :-1]).abs() * known[:, 1:]
    return weighted_mean(across + F.pad(down, (0, 0, 0, 1)), weight)


def feature_alignment_loss(
    features: Tensor, frozen: Tensor, *, margin: float = 0.85, weight: Tensor | None = None, pool: Pool = alone
) -> Tensor:
    """Alignment with a frozen encoder's features (arXiv 2401.10891), a scalar:  L = wmean( 1 − cos(f, f′) ).

    Of feature maps (B, C, h, w), the mean goes over the places where cos(f, f′) ≤ `margin`, the tolerance: places
    that agree better are left alone. `weight` is (h, w) or (B, h, w).
    """
    dtype = working_dtype(features.dtype)
    weight = frozen.isfinite().all(dim=1) * (1.0 if weight is None else weight)
    known = weight[:, None] > 0
    agreement = F.cosine_similarity(*(f.to(dtype).where(known, 0.0) for f in (features, frozen.detach())), dim=1)
    return weighted_mean(1 - agreement, weight * (agreement <= margin), dims=(-3, -2, -1), pool=pool)
