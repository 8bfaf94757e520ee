"""Measuring depth models on perspective pictures: errors of disparity, of depth, and structural similarity.

The truth of a stereo pair is a disparity d in pixels. Its inverse is the depth but for a factor, focal length f times
baseline b: predictions are aligned to 1 / d, and without alignment metric depth z becomes f b / z. Errors of depth that
have a unit are given where f and b are known. The truth of `perspective` is depth along the axis in metres, which
gives disparities, too, where f and b are known.

SSIM compares disparities of stereo pairs, and depths of others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from ..datasets.perspective import Picture
from ..metrics.alignment import BEYOND_RANGE_M, NEAREST_M, Alignment, align
from ..metrics.depth import NAMES, DepthMetrics
from ..metrics.disparity import DISPARITY_NAMES, DisparityErrors
from ..metrics.picture_ssim import picture_ssim
from .measure import json_ready

_WITHOUT_UNIT = ("abs_rel", "rmse_log", "log10", "delta1", "delta2", "delta3")


class Compared(NamedTuple):
    """One picture: its figures, and maps (H, W) of the truth's quantity: the prediction, and (1 − SSIM) / 2."""

    row: dict[str, Any]
    predicted: np.ndarray
    difference: np.ndarray


class PictureMeasurement:
    """Figures of a model on perspective pictures, one by one."""

    def __init__(self, alignment: Alignment, is_stereo: bool) -> None:
        self._alignment: Alignment = alignment
        self._is_stereo = is_stereo
        self._depth, self._disparity, self._ssim = DepthMetrics(), DisparityErrors(), list[float]()
        self._metres = True
        self.left_out = 0
        """How many pictures so far have no truth at all."""

    def add(self, picture: Picture, values: np.ndarray) -> Compared:
        """Counts one picture; `values` (H, W) are what the model gives.

        Raises ValueError where metric depth cannot become a disparity, for want of a focal length and a baseline.
        """
        factor = picture.focal_px * picture.baseline_m if picture.focal_px and picture.baseline_m else None
        truth = torch.from_numpy(picture.truth).double()
        known = truth.isfinite()
        self.left_out += int(not known.any())
        near = 1 / truth if self._is_stereo else truth
        found = torch.from_numpy(np.ascontiguousarray(values)).double()
        if self._is_stereo and self._alignment == "none":
            if not factor:
                raise ValueError(f"{picture.key}: disparity without alignment needs a focal length and a baseline")
            found = found.masked_fill(found.isposinf(), BEYOND_RANGE_M) / factor
        if known.any():
            found = align(found, near, known, self._alignment)
        predicted = found.masked_fill(found.isposinf(), BEYOND_RANGE_M).clamp_min(NEAREST_M)
        if self._is_stereo:
            predicted = predicted.clamp_max(BEYOND_RANGE_M)  # whose unit is 1 / pixel here
        row = self._add_depth(predicted, near, known, factor)
        row |= self._add_disparity(predicted, near, known, factor)
        shown = 1 / predicted if self._is_stereo else predicted
        value, similarity = picture_ssim(shown.numpy(), picture.truth, known.numpy())
        self._ssim.append(value)
        return Compared({**row, "ssim": value}, shown.numpy().astype(np.float32), (1 - similarity) / 2)

    def _add_depth(
        self, predicted: torch.Tensor, near: torch.Tensor, known: torch.Tensor, factor: float | None
    ) -> dict[str, float]:
        unit = (factor or 1.0) if self._is_stereo else 1.0
        self._metres &= factor is not None or not self._is_stereo
        found = self._depth(predicted * unit, near * unit, known)
        return {name: found[name] for name in self._names()}

    def _add_disparity(
        self, predicted: torch.Tensor, near: torch.Tensor, known: torch.Tensor, factor: float | None
    ) -> dict[str, float]:
        pixels = 1.0 if self._is_stereo else factor
        if pixels is None:
            return {}
        found = self._disparity(pixels / predicted, pixels / near, known)
        return {name: found[name] for name in DISPARITY_NAMES}

    def _names(self) -> tuple[str, ...]:
        return NAMES if self._metres else _WITHOUT_UNIT

    def figures(self) -> dict[str, Any]:
        """What the pictures so far come to, ready for JSON: None for what nothing could be measured of."""
        depth = self._depth.compute()
        similarities = [value for value in self._ssim if not math.isnan(value)]
        figures = {
            "samples": depth["samples"],
            "left_out": self.left_out,
            "alignment": self._alignment,
            **{name: depth[name] if name in self._names() else None for name in NAMES},
            "disparity": self._disparity.compute() if len(self._disparity.rows()) else None,
            "pooled": {name: depth["pooled"][name] if name in self._names() else None for name in NAMES},
            "ssim": math.fsum(similarities) / len(similarities) if similarities else None,
            "ssim_of": "disparity" if self._is_stereo else "depth",
        }
        return json_ready(figures)
