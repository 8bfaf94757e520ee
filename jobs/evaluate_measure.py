"""The protocol that every model is measured by: what is counted where, and what comes of it.

The two heads are judged apart: distances where the truth is within the range, the range mask by its overlap with what
is truly beyond it. Contours count the edge of the sky, too. `official_masked` is the protocol of the published
evaluation: what the mask says is beyond the range counts as 100 m, wherever the truth has a distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.datasets.base import Labelled
from models.labelers.load import Estimate
from models.metrics import NAMES, DepthMetrics
from models.metrics_alignment import NEAREST_M, Alignment, align
from models.metrics_boundary import BoundaryF1
from models.metrics_ssim import DepthSsim
from models.metrics_surface import NormalsAngle, RangeIoU
from models.metrics_table import BEYOND_RANGE_M


class Measurement:
    """Figures of a model on a data set, image by image, computed on `device`."""

    def __init__(self, alignment: Alignment = "none", device: torch.device | str = "cpu") -> None:
        self._alignment: Alignment = alignment
        self._device = torch.device(device)
        self._errors, self._masked = DepthMetrics(), DepthMetrics()
        self._contours, self._normals, self._range = BoundaryF1(), NormalsAngle(), RangeIoU()
        self._ssim = [DepthSsim("depth"), DepthSsim("disparity")]
        self._tells_range = True

    def add(self, item: Labelled, estimate: Estimate) -> dict[str, Any]:
        """Counts one panorama; its own figures, nan where it has nothing to measure."""
        truth_m = torch.from_numpy(item.depth_m).to(self._device)
        within = truth_m.isfinite()
        values_m = aligned_m(item, estimate, self._alignment).to(self._device)
        found = self._errors(values_m, truth_m, within)
        row = {name: found[name] for name in NAMES}
        row |= {f"spherical_{name}": found["spherical"][name] for name in NAMES}
        for metric in (self._normals, *self._ssim):
            row |= _flat(metric(values_m, truth_m, within))
        masked_m = self._without_sky(values_m, estimate.beyond_range)
        sky_m = truth_m.where(~truth_m.isposinf(), BEYOND_RANGE_M)
        row |= _flat(self._contours(masked_m, sky_m, ~truth_m.isnan()))
        if estimate.beyond_range is None:
            self._tells_range = False
        else:
            self._masked.update(masked_m, truth_m, within)
            row["range_iou"] = self._range(estimate.beyond_range, item.depth_m)
        return row

    def _without_sky(self, values_m: torch.Tensor, beyond_range: np.ndarray | None) -> torch.Tensor:
        if beyond_range is None:
            return values_m
        return values_m.masked_fill(torch.from_numpy(beyond_range > 0.5).to(self._device), torch.inf)

    def figures(self) -> dict[str, Any]:
        """What the panoramas so far come to, ready for JSON: None for what nothing could be measured of."""
        ssim = [metric.compute() for metric in self._ssim]
        figures = self._errors.compute() | {
            "alignment": self._alignment,
            "sharpness": self._contours.compute(),
            "normals": self._normals.compute(),
            "ssim": {**ssim[0], **ssim[1], "spherical": {**ssim[0]["spherical"], **ssim[1]["spherical"]}},
            "range_iou": None,
        }
        if self._tells_range:
            figures |= {"range_iou": self._range.compute(), "official_masked": self._masked.compute()["official"]}
        return json_ready(figures)


def aligned_m(item: Labelled, estimate: Estimate, alignment: Alignment) -> torch.Tensor:
    """The estimate (H, W) as distances in metres, aligned to the truth where that is within the range.

    What is nearer than 1 mm counts as 1 mm: networks of others may end in a ReLU.
    """
    truth_m = torch.from_numpy(item.depth_m)
    values = torch.from_numpy(np.ascontiguousarray(estimate.values))
    if truth_m.isfinite().any():
        values = align(values, truth_m, truth_m.isfinite(), alignment)
    return values.clamp_min(NEAREST_M)


def json_ready(values: dict[str, Any]) -> dict[str, Any]:
    """The figures, None for nan, which JSON does not know."""
    nested = {name: json_ready(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in nested.items()}


def _flat(figures: dict[str, Any]) -> dict[str, float]:
    """The figures of one image without those that are pooled or by solid angle."""
    return {name: value for name, value in figures.items() if not isinstance(value, dict)}
