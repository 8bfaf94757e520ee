"""How labels of consecutive frames agree.

Of films, the truth and the camera's poses are known. A surface point that two neighbouring frames see has a true
distance in either. With e = ln(d̂ / d), the error of its prediction, the two agree where e' − e is 0, however the camera
has moved:

    temporal_error     mean of |e' − e| over the points that both see, by solid angle, and over the pairs of frames
    scale_flicker      mean over the pairs of |median of e' − e|: the part that is one factor for a whole frame

Of footage nothing is known. What looks the same in two neighbouring frames, but for the camera's rotation, is about as
far in both of them:

    temporal_change    mean of |ln d̂' − ln d̂| over these points, likewise. It holds what the camera came nearer to them
    scale_flicker      mean over the pairs of |median of ln d̂' − ln d̂|
    share              of the sphere that these points take, where there is a distance in both
    rotation_deg       of the camera, from frame to frame
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from ..datasets.film import Film
from ..datasets.footage import Shot
from ..geometry.equirectangular import directions_to_pixels, rays, rotate, solid_angle
from ..metrics.alignment import BEYOND_RANGE_M, NEAREST_M, Alignment, align
from ..metrics.depth import depth_metrics
from .footage_motion import camera_rotation, same_colour

FILM_NAMES = ("abs_rel", "delta1", "temporal_error", "scale_flicker")
FOOTAGE_NAMES = ("temporal_change", "scale_flicker", "share", "rotation_deg")
_SAME_SURFACE = 0.02  # a point is seen where the truth is as far as it, but for this share
_LEAST_SHARE = 0.05  # of the sphere: with less of it to compare, two frames say nothing
_SPHERE = 4 * math.pi

Change = tuple[np.ndarray, np.ndarray]
"""Of P points that two frames see: the change of ln distance between the two, and their solid angles, (P,) each."""


def aligned_shot_m(film: Film, values: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Predictions (N, H, W) as distances in metres: all frames of the shot are brought to the truth by one fit."""
    truth_m = torch.from_numpy(film.depths_m).flatten(0, 1)
    found = align(torch.from_numpy(values).double().flatten(0, 1), truth_m, truth_m.isfinite(), alignment)
    found = found.masked_fill(found.isposinf(), BEYOND_RANGE_M).clamp_min(NEAREST_M)
    return found.view(values.shape).numpy()


def film_figures(film: Film, predicted_m: np.ndarray) -> dict[str, float]:
    """`FILM_NAMES` of a film's distances (N, H, W) in metres; the errors are means over its frames."""
    frames = [
        depth_metrics(predicted, true, np.isfinite(true))
        for predicted, true in zip(predicted_m, film.depths_m, strict=True)
        if np.isfinite(true).any()
    ]
    pairs = [_film_change(film, predicted_m, *pair) for pair in pairwise(range(len(film.rgbs)))]
    return {
        **{name: mean_of([one[name] for one in frames]) for name in ("abs_rel", "delta1")},
        **_agreement("temporal_error", pairs),
    }


def footage_figures(shot: Shot, predicted_m: np.ndarray) -> dict[str, float]:
    """`FOOTAGE_NAMES` of a shot's distances (N, H, W) in metres, inf or nan where there is none.

    And the pairs of frames that they are means over, and those left out: no rotation was found, or too little agrees.
    """
    frames = zip(shot.rgbs, predicted_m, strict=True)
    pairs = [found for one, other in pairwise(frames) if (found := _footage_change(*one, *other))]
    return {
        "pairs": len(pairs),
        "left_out": len(shot.rgbs) - 1 - len(pairs),
        **_agreement("temporal_change", [change for change, _ in pairs]),
        "share": mean_of([float(weights.sum()) / _SPHERE for (_, weights), _ in pairs]),
        "rotation_deg": mean_of([rotation_deg for _, rotation_deg in pairs]),
    }


def mean_of(values: list[float]) -> float:
    """Of those that are numbers; nan if none is."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _agreement(name: str, pairs: list[Change]) -> dict[str, float]:
    """The mean change, under a name, and the flicker, over the pairs that see anything in common."""
    seen = [(change, weight) for change, weight in pairs if change.size]
    return {
        name: mean_of([float(np.average(abs(change), weights=weight)) for change, weight in seen]),
        "scale_flicker": mean_of([float(abs(np.median(change))) for change, _ in seen]),
    }


def _film_change(film: Film, predicted_m: np.ndarray, one: int, other: int) -> Change:
    """e' − e of the points of a frame that another one sees, too."""
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


def _footage_change(
    before: np.ndarray, before_m: np.ndarray, after: np.ndarray, after_m: np.ndarray
) -> tuple[Change, float] | None:
    """ln d̂' − ln d̂ of what looks the same in two frames, and the camera's rotation in degrees."""
    if (rotation := camera_rotation(before, after)) is None:
        return None
    turned = rotate(torch.from_numpy(after_m)[None, None], torch.from_numpy(rotation), mode="nearest")
    turned_m = turned[0, 0].numpy()
    used = same_colour(before, after, rotation) & np.isfinite(before_m) & np.isfinite(turned_m)
    weights = solid_angle(*used.shape, dtype=torch.float64).numpy()[used]
    if weights.sum() < _LEAST_SHARE * _SPHERE:
        return None
    change = np.log(turned_m[used].clip(NEAREST_M) / before_m[used].clip(NEAREST_M))
    cosine = (np.trace(rotation) - 1) / 2
    return (change, weights), float(np.degrees(np.arccos(cosine.clip(-1, 1))))
