"""The fit of the pole measure: its weights from poles of level panoramas, and from edges that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from ..geometry.patches import View, view_directions
from ..support.logistic import fit_logistic
from .projection_measures import CANVAS_HEIGHT
from .projection_poles import features
from .sphere_view import erp_rays, rotation_to, turned, view

_PENALTY = 1e-2
_SIZE = (2 * CANVAS_HEIGHT, CANVAS_HEIGHT)

Rng = np.random.Generator


def fit_poles(
    panoramas: Sequence[np.ndarray], held_out: Sequence[np.ndarray], variants: int, seed: int
) -> dict[str, Any]:
    """`weights` (3,) and `bias` (top, bottom) as in `projection_poles`, and the `accuracy` on panoramas held out.

    Panoramas are uint8 RGB (H, 2H, 3). Each gives `variants` whole pictures, level or turned, whose edges are poles,
    and as many parts, whose edges are none. Some are coarse or compressed, and some whole ones have a nadir patch.
    Raises ValueError if there are none to fit to, or none held out.
    """
    if not panoramas or not held_out:
        raise ValueError("the pole measure needs panoramas, both to be fitted to and held out")
    rng = np.random.Generator(np.random.PCG64(seed))
    values, labels = _edges(panoramas, variants, rng)
    weights = fit_logistic(values, labels, np.array([_PENALTY] * 3 + [0, 0]))
    other_values, other_labels = _edges(held_out, variants, rng)
    right = (other_values @ weights > 0) == (other_labels > 0)
    return {
        "weights": [round(value, 2) for value in weights[:3].tolist()],
        "bias": [round(value, 2) for value in weights[3:].tolist()],
        "fitted": len(panoramas),
        "held_out": len(held_out),
        "accuracy": round(float(right.mean()), 4),
    }


def _edges(panoramas: Sequence[np.ndarray], variants: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Of every edge, its three features and which edge it is (N, 5); and whether it was cut (N,)."""
    values, labels = [], []
    for rgb in panoramas:
        panorama = cv2.resize(rgb, _SIZE, interpolation=cv2.INTER_AREA)
        for number in range(2 * variants):
            is_cut = number % 2
            picture = _spoilt(_part(panorama, rng) if is_cut else _whole(panorama, rng), rng)
            gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
            values.append(np.hstack([features(gray), np.eye(2)]))
            labels += [is_cut, is_cut]
    return np.concatenate(values), np.array(labels)


def _whole(panorama: np.ndarray, rng: Rng) -> np.ndarray:
    if rng.random() < 0.5:
        up = rng.normal(size=3)
        panorama = turned(panorama, rotation_to(up / np.linalg.norm(up)), CANVAS_HEIGHT)
    if rng.random() < 0.25:  # a nadir patch: a tripod's, or a logo
        disc = erp_rays(CANVAS_HEIGHT)[..., 2] < -math.cos(math.radians(rng.uniform(5, 25)))
        panorama = np.where(disc[..., None], rng.integers(0, 256, 3), panorama).astype(np.uint8)
    return panorama


def _part(panorama: np.ndarray, rng: Rng) -> np.ndarray:
    """A perspective picture, or what is left without 10° to 60° above and below, stretched to 2:1."""
    if rng.random() < 0.4:
        looking = View(yaw_deg=rng.uniform(0, 360), pitch_deg=rng.uniform(-30, 30))
        size = (CANVAS_HEIGHT, 2 * CANVAS_HEIGHT)
        directions = view_directions([looking], size, fov_deg=rng.uniform(50, 120))[0].numpy()
        return view(panorama, directions / np.linalg.norm(directions, axis=2, keepdims=True))
    above, below = (round(CANVAS_HEIGHT * missing_deg / 180) for missing_deg in rng.uniform(10, 60, 2))
    return cv2.resize(panorama[above : CANVAS_HEIGHT - below], _SIZE, interpolation=cv2.INTER_LINEAR)


def _spoilt(picture: np.ndarray, rng: Rng) -> np.ndarray:
    if rng.random() < 0.25:
        factor = rng.uniform(1, 3)
        picture = cv2.resize(picture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, _SIZE, interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        quality = int(rng.integers(30, 95))
        picture = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=quality))
    return np.ascontiguousarray(picture)
