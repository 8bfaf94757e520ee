"""What training minimises: the weighted sum of losses, under the distortion map and the weights of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry.equirectangular import remembered, solid_angle, working_dtype
from .losses import (
    EPSILON,
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
    by_source: Mapping[str, LossWeights] = MappingProxyType({}),
    sources: Sequence[str] = (),
    image_weight: Tensor | None = None,
    cut: Tensor | None = None,
    noisy_share: float = 0.0,
    by_solid_angle: bool = True,
    range_m: float = 100.0,
    range_mask_kind: RangeMaskKind = "bce",
    pool: Pool = alone,
) -> dict[str, Tensor]:
    """The terms that have a factor by name, means over the images that they are for, and "total": scalars.

        L = λ₁ SILog + λ₂ dense fidelity + λ₃ gradient + λ₄ normals + λ₅ points + λ₆ range mask   (arXiv 2512.16913)

    and the losses of Depth Anything, on disparities; without `weights`, λ₁ … λ₆ are the published ones. `depth_m` and
    the probabilities `beyond_range` are predictions (B, H, W). Pixels count by their solid angle, or all alike; images
    by `image_weight` (B,), such as less for pseudo-labels. Images without any valid pixel do not count for depth.
    Points are taken in units of `range_m`, the unit in which the published network predicts. Truth that is not finite
    and positive is not valid. With `pool`, the terms are those of the images of all ranks together.

    Images of the `sources` (B,) that `by_source` names have factors of their own. `cut` (B, H, W) is true where another
    image was pasted (CutMix): losses are taken on either side apart, and count by the part of the truth there (arXiv
    2401.10891, eq. 5 to 8). The disparity losses leave out the `noisy_share` of the pixels of a side.
    """
    kinds = [weights, *by_source.values()]
    highest = {entry.name: max(getattr(kind, entry.name) for kind in kinds) for entry in fields(LossWeights)}
    factors = {name: factor for name, factor in highest.items() if factor}
    if image_weight is None:
        image_weight = depth_m.new_ones(len(depth_m))
    of_each = [by_source.get(source, weights) for source in sources] if by_source else [weights] * len(depth_m)
    shares = {name: depth_m.new_tensor([getattr(one, name) / factors[name] for one in of_each]) for name in factors}
    valid = target.valid & target.depth_m.isfinite() & (target.depth_m > 0)
    target = target._replace(valid=valid)
    area = distortion_map(depth_m)
    pixel_weight = (area if by_solid_angle else torch.ones_like(area)) * image_weight[:, None, None]
    distances = _distance_losses(depth_m, target, pixel_weight, range_m, cut)
    disparities = _disparity_losses(depth_m, target, pixel_weight, cut, noisy_share)
    has_depth = image_weight * valid.flatten(1).any(dim=1)
    terms, weighted = dict[str, Tensor](), list[Tensor]()
    for name, loss in (distances | disparities).items():
        if name in factors:
            values = loss()
            terms[name] = weighted_mean(values, has_depth * (shares[name] > 0), dims=(0,), pool=pool)
            weighted.append(factors[name] * weighted_mean(shares[name] * values, has_depth, dims=(0,), pool=pool))
    if "range_mask" in factors:
        weight = pixel_weight * (valid | target.beyond_range) * shares["range_mask"][:, None, None]
        terms["range_mask"] = range_mask_loss(
            beyond_range, target.beyond_range, weight, kind=range_mask_kind, pool=pool
        )
        weighted.append(factors["range_mask"] * terms["range_mask"])
    return terms | {"total": torch.stack(weighted).sum()}


Losses = dict[str, Callable[[], Tensor]]
"""Losses of every image (B,), to be computed where they are wanted."""


def on_either_side(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    prediction: Tensor,
    target: Tensor,
    weight: Tensor,
    cut: Tensor | None,
) -> Tensor:
    """A loss of every image (B,), taken inside and outside of its cut apart:  L = Σ A·L(side) / Σ A.

    A is the weight of the side. So what is normalised by image is normalised by the image that each side is of.
    """
    if cut is None:
        return loss(prediction, target, weight)
    sides = [weight * cut, weight * ~cut]
    areas = torch.stack([side.sum(dim=(-2, -1)) for side in sides])
    losses = torch.stack([loss(prediction, target, side) for side in sides])
    return (areas * losses).sum(dim=0) / areas.sum(dim=0).clamp_min(EPSILON)


def _distance_losses(
    depth_m: Tensor, target: Target, pixel_weight: Tensor, range_m: float, cut: Tensor | None
) -> Losses:
    maps = depth_m, target.depth_m, pixel_weight * target.valid, cut
    return {
        "silog": lambda: on_either_side(silog, *maps),
        "dense_fidelity": lambda: on_either_side(dense_fidelity_loss, *maps),
        "gradient": lambda: on_either_side(gradient_loss, *maps),
        "normals": lambda: on_either_side(normals_loss, *maps),
        "points": lambda: on_either_side(points_loss, *maps) / range_m,
    }


def _disparity_losses(
    depth_m: Tensor, target: Target, pixel_weight: Tensor, cut: Tensor | None, noisy_share: float
) -> Losses:
    """Beyond the range, the true disparity is 0."""

    def maps() -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        weight = pixel_weight * (target.valid | target.beyond_range)
        predicted = 1 / filled(depth_m, weight > 0).clamp_min(NEAREST_M)
        true = target.valid / filled(target.depth_m, target.valid).clamp_min(NEAREST_M)
        return predicted, true, weight, cut

    affine_invariant = partial(affine_invariant_loss, noisy_share=noisy_share)
    gradient_matching = partial(gradient_matching_loss, noisy_share=noisy_share)
    return {
        "affine_invariant": lambda: on_either_side(affine_invariant, *maps()),
        "gradient_matching": lambda: on_either_side(gradient_matching, *maps()),
    }
