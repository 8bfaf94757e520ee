"""Errors of metric depth: per image, pooled over a data set, and by distance.

Every metric comes plain (each pixel alike), `spherical` (each pixel by its solid angle) and `official`, which is what
the published evaluation code computes: under the name rmse it takes the root before the mean, and so gives the mean
absolute error; its rmse_log does the same in log10, and so equals log10. Its other figures are what they are called.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry.equirectangular import solid_angle
from .alignment import Alignment
from .table import ImageMetric, checked, exact_mean, exact_sum

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "mae", "log10", "delta1", "delta2", "delta3")
DELTA_BASE = 1.25
BANDS_M = (0, 10, 20, 50, 100)
"""Bounds of the bands of true distance that errors are given for; a distance on a bound is in the nearer band."""

_ROOTS = [NAMES.index(name) for name in ("rmse", "rmse_log")]
_SHAPE = (2, len(BANDS_M), 1 + len(NAMES))  # plain and spherical; the bands, the last beyond 100 m; weight and errors


def depth_metrics(prediction_m: Any, target_m: Any, mask: Any) -> dict[str, Any]:
    """Metrics of predicted against true ray distance over the pixels of `mask`, as floats.

    All three are (..., H, W), arrays or tensors; over leading dimensions pixels are pooled. Keys are `NAMES`, and
    "official" and "spherical" hold dicts of the same. ValueError if shapes differ, if no pixel is left, or if in the
    mask a prediction is nan or not positive, or a truth not positive and finite.
    """
    sums = error_sums(*checked(prediction_m, target_m, mask)).cpu().numpy()
    return _variants(_means(sums.sum(axis=1)))


def error_sums(prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
    """Weighted sums over the mask of maps (..., H, W), (2, bands, 1 + metrics): of weight, and of weight × error.

    Plain weights are 1, spherical ones solid angles. The fifth band is what is truly farther than 100 m.
    """
    prediction, target = prediction_m[mask], target_m[mask]
    area = solid_angle(*mask.shape[-2:], device=mask.device, dtype=torch.float64).expand(mask.shape)[mask]
    band = torch.bucketize(target, target.new_tensor(BANDS_M[1:]))
    in_band = torch.stack([band == number for number in range(len(BANDS_M))]).to(area.dtype)
    return torch.stack([in_band, in_band * area]) @ _errors(prediction, target).T


def _errors(prediction_m: Tensor, target_m: Tensor) -> Tensor:
    """Of every pixel (N,): one, and what is averaged into a metric, before the root for the two that take one."""
    error_m = prediction_m - target_m
    log_error = prediction_m.log() - target_m.log()
    ratio = torch.maximum(prediction_m / target_m, target_m / prediction_m)
    errors = {
        "abs_rel": error_m.abs() / target_m,
        "sq_rel": error_m.square() / target_m,
        "rmse": error_m.square(),
        "rmse_log": log_error.square(),
        "mae": error_m.abs(),
        "log10": log_error.abs() / math.log(10),
        **{f"delta{k}": (ratio < DELTA_BASE**k).double() for k in (1, 2, 3)},
    }
    return torch.stack([torch.ones_like(error_m), *(errors[name] for name in NAMES)])


def _means(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 1 + metrics) to metrics (..., metrics); nan where there was no pixel."""
    weight = sums[..., :1]
    means = np.where(weight > 0, sums[..., 1:] / np.where(weight > 0, weight, 1), np.nan)
    means[..., _ROOTS] = np.sqrt(means[..., _ROOTS])
    return means


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, values.tolist(), strict=True))


def _variants(means: np.ndarray) -> dict[str, Any]:
    """Metrics (2, metrics) under the keys of `depth_metrics`."""
    plain = _named(means[0])
    official = plain | {"rmse": plain["mae"], "rmse_log": plain["log10"]}
    return plain | {"official": official, "spherical": _named(means[1])}


class DepthMetrics(ImageMetric):
    """Errors over a data set: the mean of every image's, those of all pixels pooled, and by band of true distance."""

    def __init__(self, alignment: Alignment = "none") -> None:
        super().__init__(math.prod(_SHAPE), alignment)

    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        return error_sums(prediction_m, target_m, mask)

    def compute(self) -> dict[str, Any]:
        """Means over images under the keys of `depth_metrics`, and "samples", the number of images; nan without any.

        "pooled" has the same keys, over all pixels of all images; "bands" the pooled metrics of each band, its
        "pixels", and the "share" of all measured pixels that they are.
        """
        images = self.rows().reshape(-1, *_SHAPE)
        pooled = exact_sum(images)
        pixels = pooled[0, :, 0]
        return {
            "samples": len(images),
            **_variants(exact_mean(_means(images.sum(axis=2)))),
            "pooled": _variants(_means(pooled.sum(axis=1))),
            "bands": {
                f"{near}-{far}": {
                    "pixels": int(count),
                    "share": float(count / pixels.sum()) if pixels.any() else math.nan,
                    **_variants(means),
                }
                for near, far, count, means in zip(
                    BANDS_M, BANDS_M[1:], pixels, _means(pooled).swapaxes(0, 1), strict=False
                )
            },
        }
