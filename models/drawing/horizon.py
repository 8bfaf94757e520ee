"""A small picture for people: the panorama, the horizon as it was estimated, and the verdict."""

from __future__ import annotations

import cv2
import numpy as np

from ..data.images import resize_rgb
from ..horizon.check import PanoramaVerdict
from ..horizon.tilt import up_vector

_HEIGHT, _WIDTH = 256, 512
_BAR = 22  # rows of the line of text
_KEPT, _DROPPED = (60, 220, 90), (255, 80, 60)


def draw_verdict(rgb: np.ndarray, verdict: PanoramaVerdict) -> np.ndarray:
    """A picture (H, W, 3) uint8 made small, with a line of text; the horizon and a ring around the zenith drawn in."""
    colour = _KEPT if verdict.valid else _DROPPED
    picture = np.ascontiguousarray(resize_rgb(rgb, _HEIGHT, _WIDTH))
    if verdict.tilt:
        up = up_vector(verdict.tilt.roll_deg, verdict.tilt.pitch_deg)
        cv2.polylines(picture, [_horizon(up)], False, colour, 2, cv2.LINE_AA)
        cv2.circle(picture, _pixel(up), 7, colour, 2, cv2.LINE_AA)
    bar = np.zeros((_BAR, _WIDTH, 3), np.uint8)
    cv2.putText(bar, _text(verdict), (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def _text(verdict: PanoramaVerdict) -> str:
    outcome = "kept" if verdict.valid else "dropped: " + ", ".join(verdict.reasons)
    if not (tilt := verdict.tilt):
        return outcome
    angles = f"roll {tilt.roll_deg:+.1f}, pitch {tilt.pitch_deg:+.1f}, tilt {tilt.tilt_deg:.1f} deg"
    return f"{outcome}   {angles}, confidence {tilt.confidence:.2f}"


def _horizon(up: np.ndarray) -> np.ndarray:
    """In every column, the row of the ray across the up vector: tan φ = −(up_x cos θ + up_y sin θ) / up_z."""
    theta = np.pi - 2 * np.pi * (np.arange(_WIDTH) + 0.5) / _WIDTH
    steep = up[2] if abs(up[2]) > 1e-6 else 1e-6
    phi = np.arctan(-(up[0] * np.cos(theta) + up[1] * np.sin(theta)) / steep)
    return np.stack([np.arange(_WIDTH), (0.5 - phi / np.pi) * _HEIGHT], axis=1).round().astype(np.int32)


def _pixel(direction: np.ndarray) -> tuple[int, int]:
    x, y, z = direction
    column = (0.5 - np.arctan2(y, x) / (2 * np.pi)) * _WIDTH
    return int(column) % _WIDTH, int((0.5 - np.arcsin(np.clip(z, -1, 1)) / np.pi) * _HEIGHT)
