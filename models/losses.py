"""Losses of panoramic metric depth, as plain functions on tensors.

Every pixel-wise loss takes a weight (B, H, W) ≥ 0; pixels of weight 0 (missing, beyond range, nan or inf) have no
part in the value or the gradient, and where no weight is left the loss is 0. wmean(x) = Σ w·x / Σ w.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.erp import solid_angle

EPSILON = 1e-6


class LossWeights(NamedTuple):
    """Factors of the terms of `dap_loss`."""

    silog: float = 1.0
    range_mask: float = 1.0


class Target(NamedTuple):
    """Ground truth, (B, H, W) each: `depth_m` is read where `valid`; what is not `beyond_range` either is unknown."""

    depth_m: Tensor
    valid: Tensor
    beyond_range: Tensor


def weighted_mean(values: Tensor, weight: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Σ w·x / Σ w over `dims`, 0 where the weights are all 0."""
    return (weight * values).sum(dims) / weight.sum(dims).clamp_min(EPSILON)


def silog(prediction_m: Tensor, target_m: Tensor, weight: Tensor, *, variance_focus: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic loss (arXiv 1406.2283) of every image, (B,).

    g = ln d̂ − ln d;  L = √( wmean(g²) − λ · wmean(g)² ), λ = `variance_focus` in [0, 1): the larger, the less a wrong
    scale of the whole image costs.
    """
    known = weight > 0
    prediction_m = torch.where(known, prediction_m, 1.0).clamp_min(EPSILON)
    target_m = torch.where(known, target_m, 1.0).clamp_min(EPSILON)
    error = prediction_m.log() - target_m.log()
    squared = weighted_mean(error.square(), weight) - variance_focus * weighted_mean(error, weight).square()
    return (squared + EPSILON).sqrt() - EPSILON**0.5  # the root has a finite slope at 0, where the value stays 0


def dice(probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Dice loss over the whole batch: 1 − 2 Σ w·p·t / (Σ w·p + Σ w·t); 0 where both are empty."""
    overlap = 2 * (weight * probability * truth).sum()
    return 1 - (overlap + EPSILON) / ((weight * (probability + truth)).sum() + EPSILON)


def binary_cross_entropy(probability: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """−wmean( t ln p + (1 − t) ln(1 − p) ) over the whole batch; finite for p of 0 and 1."""
    probability = probability.clamp(EPSILON, 1 - EPSILON)
    loss = -torch.where(truth > 0.5, probability, 1 - probability).log()
    return weighted_mean(loss, weight, dims=(-3, -2, -1))


def range_mask_loss(probability: Tensor, beyond_range: Tensor, weight: Tensor, *, kind: str = "bce") -> Tensor:
    """Loss of the range mask (arXiv 2512.16913): L = L_pixel + ½ · Dice, a scalar.

    The paper's equation has the squared error as L_pixel (`kind` "squared"), its text weighted cross entropy ("bce").
    """
    truth = beyond_range.to(probability.dtype)
    if kind == "squared":
        pixel = weighted_mean((probability - truth).square(), weight, dims=(-3, -2, -1))
    elif kind == "bce":
        pixel = binary_cross_entropy(probability, truth, weight)
    else:
        raise ValueError(f"range-mask loss must be bce or squared, not {kind!r}")
    return pixel + 0.5 * dice(probability, truth, weight)


def distortion_map(like: Tensor) -> Tensor:
    """Solid angle of every pixel of maps (..., H, W), scaled to a mean of 1: (H, W)."""
    area = solid_angle(like.shape[-2], like.shape[-1], device=like.device, dtype=like.dtype)
    return area / area.mean()


def dap_loss(
    depth_m: Tensor,
    beyond_range: Tensor,
    target: Target,
    *,
    weights: LossWeights | None = None,
    image_weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """All terms by name, and "total", their weighted sum: scalars.

    `depth_m` and the probabilities `beyond_range` are predictions (B, H, W). Pixels count by their solid angle, images
    by `image_weight` (B,), such as less for pseudo-labels. Images without any valid pixel do not count for depth.
    """
    weights = weights or LossWeights()
    if image_weight is None:
        image_weight = depth_m.new_ones(len(depth_m))
    pixel_weight = distortion_map(depth_m) * image_weight[:, None, None]
    has_depth = image_weight * target.valid.flatten(1).any(dim=1)
    per_image = silog(depth_m, target.depth_m, pixel_weight * target.valid)
    known = target.valid | target.beyond_range
    terms = {
        "silog": weighted_mean(per_image, has_depth, dims=(0,)),
        "range_mask": range_mask_loss(beyond_range, target.beyond_range, pixel_weight * known),
    }
    factors = weights._asdict()
    return terms | {"total": torch.stack([factors[name] * term for name, term in terms.items()]).sum()}


def hinge_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Loss of a discriminator (arXiv 1705.02894): mean max(0, 1 − D(real)) + mean max(0, 1 + D(fake)).

    Its margin keeps the scores of samples apart, where cross entropy would press all of a beaten kind together.
    """
    return (1 - real_logits).relu().mean() + (1 + fake_logits).relu().mean()
