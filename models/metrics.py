"""Metrics of metric depth: per image in closed form, and their mean over a data set.

Every metric comes plain (each pixel alike), `spherical` (each pixel by its solid angle) and `official`, which is what
the published evaluation code computes: under the name rmse it takes the root before the mean, and so gives the mean
absolute error; its rmse_log does the same in log10, and so equals log10.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.torchvision_ops import register_missing_operators

register_missing_operators()  # before torchmetrics, which imports torchvision where it is installed

from torchmetrics import Metric  # noqa: E402

from models.erp import solid_angle  # noqa: E402

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "mae", "log10", "delta1", "delta2", "delta3")
DELTA_BASE = 1.25
BEYOND_RANGE_M = 100.0
"""What a prediction of inf (beyond the range) counts as, as in the published evaluation."""


def depth_metrics(prediction_m: Any, target_m: Any, mask: Any) -> dict[str, Any]:
    """Metrics of predicted against true ray distance over the pixels of `mask`, as floats.

    All three are (..., H, W), arrays or tensors; over leading dimensions pixels are pooled. Keys are `NAMES`, and
    "official" and "spherical" hold dicts of the same. ValueError if shapes differ, if no pixel is left, or if in the
    mask a prediction is nan or not positive, or a truth not positive and finite.
    """
    prediction, target, mask = _checked(prediction_m, target_m, mask)
    area = solid_angle(mask.shape[-2], mask.shape[-1], dtype=torch.float64).expand(mask.shape)[mask]
    maps = _error_maps(prediction[mask], target[mask])
    plain = _summary(maps, torch.ones_like(area))
    official = plain | {"rmse": plain["mae"], "rmse_log": plain["log10"]}
    return plain | {"official": official, "spherical": _summary(maps, area)}


def _checked(prediction_m: Any, target_m: Any, mask: Any) -> tuple[Tensor, Tensor, Tensor]:
    prediction, target = _as_tensor(prediction_m).double(), _as_tensor(target_m).double()
    mask = _as_tensor(mask).bool()
    if not prediction.shape == target.shape == mask.shape or mask.ndim < 2:
        shapes = f"{tuple(prediction.shape)}, {tuple(target.shape)}, {tuple(mask.shape)}"
        raise ValueError(f"prediction, target and mask must have one shape (..., H, W), not {shapes}")
    if not mask.any():
        raise ValueError("the mask leaves no pixel to measure")
    prediction = prediction.masked_fill(prediction.isposinf(), BEYOND_RANGE_M)
    if not (prediction[mask] > 0).all():
        raise ValueError("a predicted distance in the mask is nan or not positive")
    if not ((target[mask] > 0) & target[mask].isfinite()).all():
        raise ValueError("a true distance in the mask is not positive and finite")
    return prediction, target, mask


def _as_tensor(values: Any) -> Tensor:
    return values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))


def _error_maps(prediction_m: Tensor, target_m: Tensor) -> dict[str, Tensor]:
    """Of every pixel: what is averaged into a metric (before the root, for the two that take one)."""
    error_m = prediction_m - target_m
    log_error = prediction_m.log() - target_m.log()
    ratio = torch.maximum(prediction_m / target_m, target_m / prediction_m)
    return {
        "abs_rel": error_m.abs() / target_m,
        "sq_rel": error_m.square() / target_m,
        "rmse": error_m.square(),
        "rmse_log": log_error.square(),
        "mae": error_m.abs(),
        "log10": log_error.abs() / math.log(10),
        **{f"delta{k}": (ratio < DELTA_BASE**k).double() for k in (1, 2, 3)},
    }


def _summary(maps: dict[str, Tensor], weight: Tensor) -> dict[str, float]:
    means = {name: float((weight * values).sum() / weight.sum()) for name, values in maps.items()}
    return means | {name: math.sqrt(means[name]) for name in ("rmse", "rmse_log")}


class DepthMetrics(Metric):
    """Mean of every image's metrics over a data set; exact under distributed reduction and any batching.

    Images whose mask is empty are not counted: so a loader may fill its last batches with images that mask nothing.
    """

    full_state_update = False
    images: Tensor
    plain: Tensor
    official: Tensor
    spherical: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        for variant in ("plain", "official", "spherical"):
            self.add_state(variant, torch.zeros(len(NAMES), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction_m: Any, target_m: Any, mask: Any) -> None:
        """Adds images (B, H, W) or one (H, W)."""
        shape = (-1, *prediction_m.shape[-2:])
        batch = zip(prediction_m.reshape(shape), target_m.reshape(shape), mask.reshape(shape), strict=True)
        for image in batch:
            if not image[2].any():
                continue
            metrics = depth_metrics(*image)
            self.images += 1
            for variant, values in (("plain", metrics), *((v, metrics[v]) for v in ("official", "spherical"))):
                state = getattr(self, variant)
                state += torch.tensor([values[name] for name in NAMES], dtype=torch.float64, device=state.device)

    def compute(self) -> dict[str, Any]:
        """The means under the keys of `depth_metrics`, and "samples", the number of images; nan where there is none."""
        plain, official, spherical = (
            dict(zip(NAMES, (state / self.images).tolist(), strict=True))
            for state in (self.plain, self.official, self.spherical)
        )
        return {"samples": int(self.images), **plain, "official": official, "spherical": spherical}
