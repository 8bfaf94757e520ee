"""Structural similarity of depth or disparity maps of panoramas.

Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004), eq. 13, with its Gaussian
window of 11×11 and σ = 1.5:

    SSIM = (2 μ_p μ_t + C₁)(2 σ_pt + C₂) / ((μ_p² + μ_t² + C₁)(σ_p² + σ_t² + C₂)),    C₁ = (0.01 L)², C₂ = (0.03 L)²

Windows go on around the seam and over the poles, and hold measured pixels alone (their weights are scaled up to one).
L is the largest true value of the image, of distance or of its inverse.
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..geometry.equirectangular import pad_sphere, solid_angle
from .alignment import Alignment
from .table import ImageMetric, exact_mean

Quantity = Literal["depth", "disparity"]

_RADIUS, _SIGMA = 5, 1.5
_BELL = [math.exp(-(step**2) / (2 * _SIGMA**2)) for step in range(-_RADIUS, _RADIUS + 1)]
_WINDOW = [weight / sum(_BELL) for weight in _BELL]


class Ssim(NamedTuple):
    """Mean over the mask (...), and maps (..., H, W), nan outside it: SSIM, and the difference (1 − SSIM) / 2."""

    value: Tensor
    similarity: Tensor
    difference: Tensor


def ssim(prediction_m: Tensor, target_m: Tensor, mask: Tensor, quantity: Quantity = "depth") -> Ssim:
    """Similarity of distances (..., H, W) > 0, or of their inverses, over the mask."""
    p, t = ((m if quantity == "depth" else 1 / m).where(mask, 0) for m in (prediction_m, target_m))
    largest = t.amax(dim=(-2, -1), keepdim=True)
    similarity = _similarity(p, t, mask, (0.01 * largest).square(), (0.03 * largest).square())
    value = similarity.where(mask, 0).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1))
    similarity = similarity.where(mask, torch.nan)
    return Ssim(value, similarity, (1 - similarity) / 2)


def _similarity(p: Tensor, t: Tensor, mask: Tensor, c1: Tensor, c2: Tensor) -> Tensor:
    """SSIM of maps (..., H, W) that are 0 outside the mask."""
    blurred = _blur(torch.stack([mask.to(p.dtype), p, t, p * p, t * t, p * t]))
    mean_p, mean_t, square_p, square_t, product = blurred[1:] / blurred[0].where(mask, 1)
    means = 2 * mean_p * mean_t
    variances = (square_p - mean_p.square()) + (square_t - mean_t.square())
    return ((means + c1) * (2 * product - means + c2)) / ((mean_p.square() + mean_t.square() + c1) * (variances + c2))


def _blur(maps: Tensor) -> Tensor:
    """Maps (..., H, W) under the Gaussian window, wrapped around; shifted sums are several times faster than conv2d."""
    padded = pad_sphere(maps, _RADIUS)
    for dim in (-2, -1):
        size = padded.shape[dim] - 2 * _RADIUS
        total = torch.zeros_like(padded.narrow(dim, 0, size))
        for shift, weight in enumerate(_WINDOW):
            total.add_(padded.narrow(dim, shift, size), alpha=weight)
        padded = total
    return padded


class DepthSsim(ImageMetric):
    """Mean similarity over the images of a data set, plain and by solid angle."""

    def __init__(self, quantity: Quantity = "depth", alignment: Alignment = "none") -> None:
        super().__init__(2, alignment)
        self.quantity: Quantity = quantity

    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        found = ssim(prediction_m, target_m, mask, self.quantity)
        area = solid_angle(*mask.shape[-2:], device=mask.device, dtype=found.value.dtype)[mask]
        return torch.stack([found.value, (found.similarity[mask] * area).sum() / area.sum()])

    def compute(self) -> dict[str, Any]:
        """ssim_depth or ssim_disparity, and "spherical" with the same; nan without an image."""
        plain, spherical = exact_mean(self.rows()).tolist()
        name = f"ssim_{self.quantity}"
        return {name: plain, "spherical": {name: spherical}}
