"""How labels of consecutive frames agree, where the truth and the camera's poses are known.

A surface point that two neighbouring frames see has a true distance in either. With e = ln(d̂ / d), the error of its
prediction, the two agree where e' − e is 0, however the camera has moved:

    temporal_error     mean of |e' − e| over the points that both see, by solid angle, and over the pairs of frames
    scale_flicker      mean over the pairs of |median of e' − e|: the part that is one factor for a whole frame
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from ..datasets.film import Film
from ..geometry.equirectangular import directions_to_pixels, rays, solid_angle
from ..metrics.alignment import BEYOND_RANGE_M, NEAREST_M, Alignment, align
from ..metrics.depth import depth_metrics

TEMPORAL_NAMES = ("abs_rel", "delta1", "temporal_error", "scale_flicker")
_SAME_SURFACE = 0.02  # a point is seen where the truth is as far as it, but for this share


def aligned_shot_m(film: Film, values: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Predictions (N, H, W) as distances in metres: all frames of the shot are brought to the truth by one fit."""
    truth_m = torch.from_numpy(film.depths_m).flatten(0, 1)
    found = align(torch.from_numpy(values).double().flatten(0, 1), truth_m, truth_m.isfinite(), alignment)
    found = found.masked_fill(found.isposinf(), BEYOND_RANGE_M).clamp_min(NEAREST_M)
    return found.view(values.shape).numpy()


def temporal_figures(film: Film, predicted_m: np.ndarray) -> dict[str, float]:
    """`TEMPORAL_NAMES` of a shot's distances (N, H, W) in metres; the errors are means over its frames."""
    frames = [
        depth_metrics(predicted, true, np.isfinite(true))
        for predicted, true in zip(predicted_m, film.depths_m, strict=True)
        if np.isfinite(true).any()
    ]
    pairs = [_change(film, predicted_m, *pair) for pair in pairwise(range(len(film.rgbs)))]
    seen = [(change, weight) for change, weight in pairs if change.size]
    return {
        **{name: _mean([one[name] for one in frames]) for name in ("abs_rel", "delta1")},
        "temporal_error": _mean([float(np.average(abs(change), weights=weight)) for change, weight in seen]),
        "scale_flicker": _mean([float(abs(np.median(change))) for change, _ in seen]),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _change(film: Film, predicted_m: np.ndarray, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """e' − e of the points of a frame that another one sees, too, and their solid angles, (P,) each."""
    height, width = film.depths_m.shape[1:]
    known = np.isfinite(film.depths_m[one])
    true_m = film.depths_m[one][known]
    points = rays(height, width, dtype=torch.float64).numpy()[known] * true_m[:, None]
    moved = points @ film.rotations[one].T + film.positions_m[one] - film.positions_m[other]
    there = moved @ film.rotations[other]
    columns, rows = (values.long().numpy() for values in directions_to_pixels(torch.from_numpy(there), height, width))
    rows, columns = rows.clip(0, height - 1), columns % width
    with np.errstate(invalid="ignore"):  # of the sky
        seen = abs(film.depths_m[other][rows, columns] / np.linalg.norm(there, axis=1) - 1) < _SAME_SURFACE
    rows, columns = rows[seen], columns[seen]
    before = np.log(predicted_m[one][known][seen] / true_m[seen])
    after = np.log(predicted_m[other][rows, columns] / film.depths_m[other][rows, columns])
    return after - before, solid_angle(height, width, dtype=torch.float64).numpy()[known][seen]
