"""What training minimises: the weighted sum of losses, under the distortion map and the weights of images."""

from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry.equirectangular import remembered, solid_angle, working_dtype
from .losses import (
    Pool,
    alone,
    dense_fidelity_loss,
    filled,
    gradient_loss,
    normals_loss,
    points_loss,
    range_mask_loss,
    silog,
    weighted_mean,
)
from .relative import affine_invariant_loss, gradient_matching_loss
from .weights import PUBLISHED, LossWeights, RangeMaskKind

NEAREST_M = 0.01
"""Disparities are those of distances of at least this."""


class Target(NamedTuple):
    """Ground truth, (B, H, W) each: `depth_m` is read where `valid`; what is not `beyond_range` either is unknown."""

    depth_m: Tensor
    valid: Tensor
    beyond_range: Tensor


def distortion_map(like: Tensor) -> Tensor:
    """Solid angle of every pixel of maps (..., H, W), scaled to a mean of 1: (H, W), at least float32."""
    return _distortion_map(like.shape[-2], like.shape[-1], like.device, working_dtype(like.dtype))


@remembered
def _distortion_map(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    area = solid_angle(height, width, device=device, dtype=dtype)
    return area / area.mean()


def dap_loss(
    depth_m: Tensor,
    beyond_range: Tensor,
    target: Target,
    *,
    weights: LossWeights = PUBLISHED,
    image_weight: Tensor | None = None,
    range_m: float = 100.0,
    range_mask_kind: RangeMaskKind = "bce",
    pool: Pool = alone,
) -> dict[str, Tensor]:
    """The terms that have a factor by name, and "total", their weighted sum: scalars.

        L = λ₁ SILog + λ₂ dense fidelity + λ₃ gradient + λ₄ normals + λ₅ points + λ₆ range mask   (arXiv 2512.16913)

    and the losses of Depth Anything, on disparities; without `weights`, λ₁ … λ₆ are the published ones. `depth_m` and
    the probabilities `beyond_range` are predictions (B, H, W). Pixels count by their solid angle, images by
    `image_weight` (B,), such as less for pseudo-labels. Images without any valid pixel do not count for depth. Points
    are taken in units of `range_m`, the unit in which the published network predicts. Truth that is not finite and
    positive is not valid. With `pool`, the terms are those of the images of all ranks together.
    """
    factors = {name: factor for name, factor in asdict(weights).items() if factor}
    if image_weight is None:
        image_weight = depth_m.new_ones(len(depth_m))
    valid = target.valid & target.depth_m.isfinite() & (target.depth_m > 0)
    target = target._replace(valid=valid)
    pixel_weight = distortion_map(depth_m) * image_weight[:, None, None]
    distances = _distance_losses(depth_m, target, pixel_weight, range_m)
    disparities = _disparity_losses(depth_m, target, pixel_weight)
    has_depth = image_weight * valid.flatten(1).any(dim=1)
    terms = {
        name: weighted_mean(loss(), has_depth, dims=(0,), pool=pool)
        for name, loss in (distances | disparities).items()
        if name in factors
    }
    if "range_mask" in factors:
        known = valid | target.beyond_range
        terms["range_mask"] = range_mask_loss(
            beyond_range, target.beyond_range, pixel_weight * known, kind=range_mask_kind, pool=pool
        )
    weighted = [factors[name] * term for name, term in terms.items()]
    return terms | {"total": torch.stack(weighted).sum()}


Losses = dict[str, Callable[[], Tensor]]
"""Losses of every image (B,), to be computed where they are wanted."""


def _distance_losses(depth_m: Tensor, target: Target, pixel_weight: Tensor, range_m: float) -> Losses:
    maps = depth_m, target.depth_m, pixel_weight * target.valid
    return {
        "silog": lambda: silog(*maps),
        "dense_fidelity": lambda: dense_fidelity_loss(*maps),
        "gradient": lambda: gradient_loss(*maps),
        "normals": lambda: normals_loss(*maps),
        "points": lambda: points_loss(*maps) / range_m,
    }


def _disparity_losses(depth_m: Tensor, target: Target, pixel_weight: Tensor) -> Losses:
    """Beyond the range, the true disparity is 0."""

    def maps() -> tuple[Tensor, Tensor, Tensor]:
        weight = pixel_weight * (target.valid | target.beyond_range)
        predicted = 1 / filled(depth_m, weight > 0).clamp_min(NEAREST_M)
        true = target.valid / filled(target.depth_m, target.valid).clamp_min(NEAREST_M)
        return predicted, true, weight

    return {
        "affine_invariant": lambda: affine_invariant_loss(*maps()),
        "gradient_matching": lambda: gradient_matching_loss(*maps()),
    }
