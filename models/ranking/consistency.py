"""A labeler's agreement with itself: the views of a panorama that it predicts, their mean, and their spread.

A panorama turned about the vertical, or mirrored, shows the same distances elsewhere. Where a labeler contradicts
itself there, it does not know: the spread of its predictions ranks labels without any truth (as the disagreement of an
ensemble does, arXiv 1612.01474, with views in the place of networks), and their mean is the better label.

It sees what a labeler is unsure of, and damage to a label that the labeler would not predict itself: noise, blur, a
wrong scale of a part, a seam. It cannot see what the labeler gets wrong alike in all views, such as the scale of the
whole scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np

from ..labelers.load import Estimate, Labeler
from ..metrics.alignment import BEYOND_RANGE_M
from .views import View, Views


class Agreement:
    """What the views of one panorama say, added one by one."""

    def __init__(self) -> None:
        self._views = 0
        self._distances, self._masked = _Moments(), _Moments()
        self._beyond: np.ndarray | None = None
        self._nearer_m: float | None = None

    def add(self, view: Estimate) -> None:
        """Adds a metric estimate, turned back."""
        self._views += 1
        self._distances.add(view.values)
        self._masked.add(_within(view.masked()))
        self._nearer_m = view.nearer_m
        if view.beyond_range is not None:
            self._beyond = view.beyond_range + (0 if self._beyond is None else self._beyond)

    def mean(self) -> Estimate:
        """The mean of the views: of ln distance, in which errors are alike near and far, and of the probability.

        A view that has no distance in a pixel, nan or not positive, is left out there. What more than half of the views
        put at inf is beyond the range.
        """
        beyond = None if self._beyond is None else (self._beyond / self._views).astype(np.float32)
        values = np.where(2 * self._distances.infinite > self._views, np.inf, self._distances.mean_m())
        return Estimate(values.astype(np.float32), beyond, self._nearer_m)

    def spread(self, label_m: np.ndarray) -> float:
        """How far the views lie from a label (H, W) in metres: Σ Ω·√(mean over views of (ln dᵥ − ln d)²) / Σ Ω.

        Ω is the solid angle; of the mean of the views it is their standard deviation. The sums are over the pixels that
        have a distance in the label; a view that sees the sky there counts as 100 m. nan if there is no such pixel.
        """
        import torch

        from ..geometry.equirectangular import solid_angle

        known = (label_m > 0) & (label_m < np.inf) & (self._masked.count > 0)
        squares = self._masked.mean_square_from(np.where(known, label_m, 1))
        if not known.any():
            return float("nan")
        area = solid_angle(*label_m.shape, dtype=torch.float64).numpy()
        return float(np.average(np.sqrt(squares[known].clip(0)), weights=area[known]))


class _Moments:
    """Of ln d over views, pixel by pixel: how many there are, their sum, and that of their squares."""

    def __init__(self) -> None:
        self.count: np.ndarray = np.zeros(())
        self.infinite: np.ndarray = np.zeros(())
        self._sum: np.ndarray = np.zeros(())
        self._squares: np.ndarray = np.zeros(())

    def add(self, depth_m: np.ndarray) -> None:
        known = (depth_m > 0) & (depth_m < np.inf)
        log = np.log(np.where(known, depth_m, 1).astype(np.float64))
        self.count, self.infinite = self.count + known, self.infinite + np.isposinf(depth_m)
        self._sum, self._squares = self._sum + log, self._squares + log**2

    def mean_m(self) -> np.ndarray:
        """exp of the mean; nan where there is no distance."""
        return np.where(self.count > 0, np.exp(self._sum / np.maximum(self.count, 1)), np.nan)

    def mean_square_from(self, depth_m: np.ndarray) -> np.ndarray:
        """Mean of (ln dᵥ − ln d)², where both are known."""
        log, count = np.log(np.where(depth_m > 0, depth_m, 1).astype(np.float64)), np.maximum(self.count, 1)
        return self._squares / count - 2 * log * self._sum / count + log**2


def _within(depth_m: np.ndarray) -> np.ndarray:
    return np.where(np.isposinf(depth_m), BEYOND_RANGE_M, depth_m)


def estimate_views(
    estimate: Callable[[list[np.ndarray]], list[Estimate]], rgbs: list[np.ndarray], views: Views
) -> list[list[Estimate]]:
    """What a labeler says of panoramas (H, W, 3) uint8 of any sizes: of each an estimate a view, as it was seen."""
    by_number = zip(*(views.of(rgb.shape[1]) for rgb in rgbs), strict=True)
    by_view = [estimate([view.see(rgb) for view, rgb in zip(of_each, rgbs, strict=True)]) for of_each in by_number]
    return list(map(list, zip(*by_view, strict=True)))


def agreement(estimates: Sequence[Estimate], views: Views) -> Agreement:
    """What the estimates of one panorama, one a view, say together."""
    return _added(_upright(estimates, views))


def _added(estimates: Iterable[Estimate]) -> Agreement:
    found = Agreement()
    for one in estimates:
        found.add(one)
    return found


def _upright(estimates: Sequence[Estimate], views: Views) -> list[Estimate]:
    of_width = views.of(estimates[0].values.shape[1])
    return [turned_back(one, view) for one, view in zip(estimates, of_width, strict=True)]


def agreements(
    estimate: Callable[[list[np.ndarray]], list[Estimate]], rgbs: list[np.ndarray], views: Views
) -> list[Agreement]:
    """What a labeler says of panoramas (H, W, 3) uint8 of any sizes under the views."""
    return [agreement(estimates, views) for estimates in estimate_views(estimate, rgbs, views)]


class AgreementRanker:
    """Scores labels by how far labelers contradict them: one under several views, or several as they are.

    All of them give metric depth. Without `views` each predicts once.
    """

    def __init__(self, labelers: Sequence[Labeler], views: Views | None):
        self._labelers, self._views = labelers, views

    def score(self, rgbs: list[np.ndarray], labels_m: list[np.ndarray]) -> list[float]:
        """Scores in [0, 1] of panoramas (H, W, 3) uint8 with distances (H, W): inf beyond range, nan or 0 missing."""
        by_labeler = [self._ask(labeler, rgbs) for labeler in self._labelers]
        return [
            confidence(_added(chain(*estimates)).spread(label_m))
            for label_m, *estimates in zip(labels_m, *by_labeler, strict=True)
        ]

    def _ask(self, labeler: Labeler, rgbs: list[np.ndarray]) -> list[list[Estimate]]:
        if self._views is None:
            return [[one] for one in labeler.estimate(rgbs)]
        return [_upright(estimates, self._views) for estimates in estimate_views(labeler.estimate, rgbs, self._views)]


def turned_back(seen: Estimate, view: View) -> Estimate:
    """An estimate of what was seen in a view, as one of the panorama."""
    beyond = None if seen.beyond_range is None else view.unsee(seen.beyond_range)
    return Estimate(view.unsee(seen.values), beyond, seen.nearer_m)


def confidence(spread: float | None) -> float:
    """A score in [0, 1], the higher, the better: exp(−spread); 0 for none, or nan."""
    return float(np.exp(-spread)) if spread is not None and spread == spread else 0.0
