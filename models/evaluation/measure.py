"""The protocol that every model is measured by.

The two heads are measured apart: distances where the truth is within the range, the range mask by its overlap with what
is truly beyond it, or beyond the nearer threshold that it was trained for. Contours count the edge of the sky, too:
what is beyond the range counts as far as the farthest distance of its map, and at least as 100 m. `bands_masked` are
the errors by distance of what the range mask leaves, M ⊙ D, and of each band the share that it leaves.
`official_masked` is the protocol of the published evaluation: where 1 − mask ≤ 0.5 the distance is 100 m, wherever the
truth has one. The seam (`models.equivariance`) is that of the distances that are measured: of a relative model, once
they are aligned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..datasets.base import Labelled
from ..labelers.load import Estimate, Labeler
from ..metrics.alignment import BEYOND_RANGE_M, NEAREST_M, Alignment, align
from ..metrics.boundary import BoundaryF1
from ..metrics.depth import NAMES, DepthMetrics
from ..metrics.equivariance import seam_ratio
from ..metrics.ssim import DepthSsim
from ..metrics.surface import NormalsAngle, RangeIoU

Predict = Callable[[list[Labelled]], list[Estimate]]
"""Labelled panoramas to estimates; a model sees only the images, the blind predictor only the scene types."""


def predictor_of(labeler: Labeler) -> Predict:
    """A model as a `Predict`: it sees the images alone."""
    return lambda items: labeler.estimate([item.rgb for item in items])


def estimates_of(predict: Predict, items: list[Labelled]) -> list[Estimate]:
    """Estimates of panoramas; ValueError if the model fails, or gives nan."""
    estimates = predict(items)
    if bad := next((i.key for i, e in zip(items, estimates, strict=True) if np.isnan(e.values).any()), None):
        raise ValueError(f"gives nan for {bad}")
    return estimates


class Measurement:
    """Figures of a model on a data set, image by image, computed on `device`."""

    def __init__(self, alignment: Alignment = "none", device: torch.device | str = "cpu") -> None:
        self._alignment: Alignment = alignment
        self._device = torch.device(device)
        self._errors, self._masked, self._left = DepthMetrics(), DepthMetrics(), DepthMetrics()
        self._contours, self._normals, self._range = BoundaryF1(), NormalsAngle(), RangeIoU()
        self._ssim = [DepthSsim("depth"), DepthSsim("disparity")]
        self._mask_m: float | None = None
        self._seams: list[float] = []
        self.left_out = 0
        """How many panoramas so far have no truth at all: no distance, and nothing beyond the range."""

    def add(self, item: Labelled, estimate: Estimate) -> dict[str, Any]:
        """Counts one panorama; its own figures, nan where it has nothing to measure."""
        truth_m = torch.from_numpy(item.depth_m).to(self._device)
        within = truth_m.isfinite()
        self.left_out += int(truth_m.isnan().all())
        values_m = aligned_m(item, estimate, self._alignment).to(self._device)
        found = self._errors(values_m, truth_m, within)
        row = {name: found[name] for name in NAMES}
        row |= {f"spherical_{name}": found["spherical"][name] for name in NAMES}
        for metric in (self._normals, *self._ssim):
            row |= _flat(metric(values_m, truth_m, within))
        row |= self._add_mask(estimate, values_m, truth_m)
        said_beyond = torch.from_numpy(np.isposinf(estimate.masked())).to(self._device)
        masked_m = values_m.masked_fill(said_beyond, torch.inf)
        row |= _flat(self._contours(_sky_farthest(masked_m), _sky_farthest(truth_m), ~truth_m.isnan()))
        row["seam_ratio"] = self._seam(values_m, bool(within.any()))
        return row

    def _add_mask(self, estimate: Estimate, values_m: torch.Tensor, truth_m: torch.Tensor) -> dict[str, float]:
        """Adds a range mask, or a mask of a nearer threshold; returns its own overlap."""
        self._mask_m = None
        if estimate.beyond_range is None:
            return {}
        beyond = torch.from_numpy(estimate.beyond_range).to(self._device)
        self._left.update(values_m, truth_m, truth_m.isfinite() & (beyond <= 0.5))
        if estimate.nearer_m is None:
            self._mask_m = BEYOND_RANGE_M
            official_m = values_m.masked_fill(1 - beyond <= 0.5, BEYOND_RANGE_M)
            self._masked.update(official_m, truth_m, truth_m.isfinite())
        else:
            self._mask_m = estimate.nearer_m
            truth_m = truth_m.masked_fill(truth_m > estimate.nearer_m, torch.inf)
        return {"range_iou": self._range(beyond, truth_m)}

    def _seam(self, values_m: torch.Tensor, aligned: bool) -> float:
        """That of one panorama, nan where there was nothing to align it to."""
        if self._alignment != "none" and not aligned:
            return float("nan")
        self._seams.append(seam_ratio(_sky_farthest(values_m).cpu().numpy()))
        return self._seams[-1]

    def figures(self) -> dict[str, Any]:
        """What the panoramas so far come to, ready for JSON: None for what nothing could be measured of."""
        ssim = [metric.compute() for metric in self._ssim]
        figures = self._errors.compute() | {
            "alignment": self._alignment,
            "sharpness": self._contours.compute(),
            "normals": self._normals.compute(),
            "ssim": {**ssim[0], **ssim[1], "spherical": {**ssim[0]["spherical"], **ssim[1]["spherical"]}},
            "range_iou": None if self._mask_m is None else self._range.compute(),
            "range_threshold_m": self._mask_m,
            "sphere": {"seam_ratio": _middle(self._seams)},
            "left_out": self.left_out,
        }
        if self._mask_m is not None:
            figures["bands_masked"] = _with_share_left(figures["bands"], self._left.compute()["bands"])
        if self._mask_m == BEYOND_RANGE_M:
            figures["official_masked"] = self._masked.compute()["official"]
        return json_ready(figures)


def _with_share_left(bands: dict[str, Any], left: dict[str, Any]) -> dict[str, Any]:
    """The errors by distance of what a mask leaves, with the share of each band's pixels that it leaves."""
    shares = {name: left[name]["pixels"] / max(band["pixels"], 1) for name, band in bands.items()}
    return {name: {"share_left": shares[name] if bands[name]["pixels"] else None, **left[name]} for name in bands}


def aligned_m(item: Labelled, estimate: Estimate, alignment: Alignment) -> torch.Tensor:
    """The estimate (H, W) as distances in metres, aligned to the truth where that is within the range.

    What is nearer than 1 mm counts as 1 mm: networks of others may end in a ReLU.
    """
    truth_m = torch.from_numpy(item.depth_m)
    values = torch.from_numpy(np.ascontiguousarray(estimate.values))
    if truth_m.isfinite().any():
        values = align(values, truth_m, truth_m.isfinite(), alignment)
    return values.clamp_min(NEAREST_M)


def drawn_m(item: Labelled, estimate: Estimate, alignment: Alignment) -> np.ndarray:
    """An estimate (H, W) in metres as it is drawn: aligned, and inf where it is predicted to be beyond the range."""
    return replace(estimate, values=aligned_m(item, estimate, alignment).numpy()).masked()


def _sky_farthest(values_m: torch.Tensor) -> torch.Tensor:
    """Distances (H, W) with what is beyond the range as far as the farthest of them, and at least at 100 m."""
    farthest_m = values_m.where(values_m.isfinite(), BEYOND_RANGE_M).amax().clamp_min(BEYOND_RANGE_M)
    return values_m.where(~values_m.isposinf(), farthest_m)


def _middle(values: list[float]) -> float:
    """The median of what is a finite number; nan if nothing is."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def json_ready(values: dict[str, Any]) -> dict[str, Any]:
    """The figures, None for nan, which JSON does not know."""
    nested = {name: json_ready(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in nested.items()}


def _flat(figures: dict[str, Any]) -> dict[str, float]:
    """The figures of one image without those that are pooled or by solid angle."""
    return {name: value for name, value in figures.items() if not isinstance(value, dict)}
