"""Metrics of surfaces: the angle between predicted and true normals, and the overlap of range masks.

Normals are those of `models.geometry.normals`, whose neighbours wrap around the seam and over the poles; a pixel counts
where it and its four neighbours have a true distance. The shares within 11.25°, 22.5° and 30° are those of Eigen and
Fergus (arXiv 1411.4734).
"""

from typing import Any

import torch
from torch import Tensor

from ..geometry.equirectangular import pad_sphere, solid_angle
from ..geometry.normals import local_normals
from .alignment import Alignment
from .table import ImageMetric, Metric, exact_mean

WITHIN_DEG = (11.25, 22.5, 30.0)
_FIGURES = ("normal_deg", *(f"normal_within_{int(angle)}" for angle in WITHIN_DEG))


def normal_angle_deg(prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
    """Angle between the normals of distances (..., H, W), in degrees; nan where the truth has none within the mask."""
    maps = (torch.stack(local_normals(depth_m.where(mask, 1))) for depth_m in (prediction_m, target_m))
    predicted, true = maps
    angle = torch.atan2(torch.linalg.cross(predicted, true, dim=0).norm(dim=0), (predicted * true).sum(dim=0))
    around = pad_sphere(mask, 1)
    whole = mask & around[..., 1:-1, 2:] & around[..., 1:-1, :-2] & around[..., 2:, 1:-1] & around[..., :-2, 1:-1]
    return angle.rad2deg().where(whole, torch.nan)


class NormalsAngle(ImageMetric):
    """Mean angle of normals and shares below some angles, plain and by solid angle: means over images."""

    def __init__(self, alignment: Alignment = "none") -> None:
        super().__init__(2 * len(_FIGURES), alignment)

    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        angle = normal_angle_deg(prediction_m, target_m, mask)
        known = ~angle.isnan()
        area = solid_angle(*mask.shape[-2:], device=mask.device, dtype=angle.dtype)[known]
        values = torch.stack([angle[known], *((angle[known] < bound).to(angle.dtype) for bound in WITHIN_DEG)])
        return torch.stack([values.mean(dim=-1), (values * area).sum(dim=-1) / area.sum()])  # nan where nothing is

    def compute(self) -> dict[str, Any]:
        """normal_deg, normal_within_11, _22 and _30, and "spherical" with the same; nan without any normal."""
        plain, spherical = exact_mean(self.rows().reshape(-1, 2, len(_FIGURES)))
        return {
            **dict(zip(_FIGURES, plain.tolist(), strict=True)),
            "spherical": dict(zip(_FIGURES, spherical.tolist(), strict=True)),
        }


class RangeIoU(Metric):
    """Overlap of what is predicted and what is truly beyond the range, |A ∩ B| / |A ∪ B| over all pixels together."""

    full_state_update = False
    overlap: Tensor
    union: Tensor

    def __init__(self) -> None:
        super().__init__()
        for count in ("overlap", "union"):
            self.add_state(count, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, beyond_range: Any, target_m: Any) -> None:
        """Probabilities of being beyond the range, and truths with inf there and nan where nothing is known."""
        predicted, target_m = torch.as_tensor(beyond_range) > 0.5, torch.as_tensor(target_m)
        known, true = ~target_m.isnan(), target_m.isposinf()
        self.overlap += (known & true & predicted).sum().to(self.device)
        self.union += (known & (true | predicted)).sum().to(self.device)

    def compute(self) -> float:
        """nan where nothing is beyond the range, in truth or prediction."""
        return int(self.overlap) / int(self.union) if self.union else float("nan")
