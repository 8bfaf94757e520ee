"""Pictures that the tilt network learns from, made of level panoramas: turned ones whose up vector is known, and parts.

Their colours, sharpness and noise are changed, and parts of them covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ..geometry.equirectangular import rotation_matrix
from .sphere_view import erp_rays, rotation_to, view
from .tilt import up_vector
from .tilt_network import KINDS, VIEW_HEIGHT
from .tilt_worlds import SIZE, Rng, Worlds, stretching

_RAYS = erp_rays(VIEW_HEIGHT)
_LEAST_MISSING_DEG = 18.0  # of the height; less is a nadir patch


class TiltPictures:
    """Draws pictures from groups of level panoramas, uint8 RGB."""

    def __init__(self, simulated: Sequence[np.ndarray], photographed: Sequence[Sequence[np.ndarray]] = ()):
        self._worlds = Worlds(simulated, photographed)

    def whole(self, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """A turned panorama (VIEW_HEIGHT, 2·VIEW_HEIGHT, 3) float32 in [0, 1], and its up vector (3,)."""
        up = _up(rng)
        directions = _RAYS @ rotation_to(up).astype(np.float32)
        if rng.random() < 0.5:
            directions = _unit(directions @ stretching(rng).astype(np.float32))
        return _spoilt(view(self._worlds.mixed(rng), directions), rng), up

    def other(self, kind: str, rng: Rng) -> np.ndarray:
        """A part of a panorama stretched to 2:1, or a perspective picture, float32 in [0, 1]."""
        directions = _part(rng) if kind == "partial" else _lens(rng)
        world = self._worlds.mixed(rng) if rng.random() < 0.3 else self._worlds.pick(rng)
        return _spoilt(view(world, directions), rng)

    def draw(self, kind: str, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """A picture of one of KINDS and its up vector; zeros where it has none."""
        return self.whole(rng) if kind == KINDS[0] else (self.other(kind, rng), np.zeros(3))


def _up(rng: Rng) -> np.ndarray:
    """As cameras are held: a third nearly level, half rolled and pitched by up to 60°, some in any direction."""
    choice = rng.random()
    if choice < 0.5:
        return up_vector(*rng.uniform(-60, 60, 2))
    if choice < 0.9:
        tilt = math.radians(rng.normal(0, 8)) + (np.pi if choice > 0.88 else 0)
    else:
        tilt = math.acos(rng.uniform(-1, 1))
    towards = rng.uniform(0, 2 * np.pi)
    return np.array([math.sin(tilt) * math.cos(towards), math.sin(tilt) * math.sin(towards), math.cos(tilt)])


def _part(rng: Rng) -> np.ndarray:
    """Directions of a panorama that lacks part of its width, of its height, or both; or of a cylinder's."""
    span, top, bottom = 2 * np.pi, np.pi / 2, -np.pi / 2
    narrow = rng.random() < 0.5
    if narrow:
        span = math.radians(180 if rng.random() < 0.5 else rng.uniform(90, 325))
    if not narrow or rng.random() < 0.3:
        above, below = _missing_rad(rng)
        top, bottom = top - above, bottom + below
    shares = (np.arange(SIZE[0]) + 0.5) / SIZE[0]
    latitudes = top + (bottom - top) * shares
    if not narrow and max(abs(top), abs(bottom)) < math.radians(87) and rng.random() < 0.5:
        latitudes = np.arctan(math.tan(top) + (math.tan(bottom) - math.tan(top)) * shares)
    longitudes = rng.uniform(0, 2 * np.pi) - span * (np.arange(SIZE[1]) + 0.5) / SIZE[1]
    flat = np.cos(latitudes)[:, None]
    x, y, z = flat * np.cos(longitudes), flat * np.sin(longitudes), np.sin(latitudes)[:, None]
    roll_deg, pitch_deg = rng.normal(0, 5, 2)
    return _directions(x, y, z) @ rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg).numpy().T


def _missing_rad(rng: Rng) -> tuple[float, float]:
    """What is cut off above and below: on both sides alike, or on one."""
    choice = rng.random()
    if choice < 0.5:
        missing = math.radians(rng.uniform(_LEAST_MISSING_DEG / 2, 60))
        return missing, missing
    missing = math.radians(rng.uniform(_LEAST_MISSING_DEG, 80))
    return (missing, 0.0) if choice < 0.75 else (0.0, missing)


def _lens(rng: Rng) -> np.ndarray:
    """Directions of a perspective picture of any shape, squeezed to 2:1."""
    half = math.tan(math.radians(rng.uniform(45, 120) / 2))
    y, z = np.linspace(half, -half, SIZE[1]), np.linspace(half, -half, SIZE[0])[:, None] * rng.uniform(0.4, 0.9)
    rotation = rotation_matrix(
        yaw_deg=rng.uniform(0, 360), pitch_deg=float(np.clip(rng.normal(0, 25), -80, 80)), roll_deg=rng.normal(0, 5)
    )
    directions = _directions(np.ones(1), y, z) @ rotation.numpy().T
    return _unit(directions)


def _unit(directions: np.ndarray) -> np.ndarray:
    return directions / np.linalg.norm(directions, axis=2, keepdims=True)


def _directions(*parts: np.ndarray) -> np.ndarray:
    return np.stack([np.broadcast_to(part, SIZE) for part in parts], axis=2)


def _spoilt(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Another camera's colours, sharpness and noise, and things in the way, as float32 in [0, 1]."""
    picture = _developed(_coarser(rgb, rng).astype(np.float32) / 255, rng)
    for _ in range(rng.integers(0, 3)):
        centre = rng.normal(size=3)
        _cover(picture, centre / np.linalg.norm(centre), rng.uniform(5, 30), rng)
    if rng.random() < 0.25:
        _cover(picture, np.array([0.0, 0.0, -1.0]), rng.uniform(8, 35), rng)
    return picture


def _coarser(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    if rng.random() >= 0.25:
        return rgb
    factor = rng.uniform(1, 3.5)
    size = int(SIZE[1] / factor), int(SIZE[0] / factor)
    return cv2.resize(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), SIZE[::-1])


def _developed(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    choice = rng.random()
    if choice < 0.2:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif choice < 0.55:
        rgb = cv2.transform(rgb, np.eye(3) + rng.normal(0, 0.12, (3, 3))).clip(0, None)
    gains = (2 ** rng.normal(0, 0.3) * (1 + rng.normal(0, 0.08, 3))).astype(np.float32)
    rgb = cv2.pow(np.asarray(rgb, np.float32), 2 ** rng.normal(0, 0.5)) * gains + np.float32(rng.normal(0, 0.05))
    if rng.random() < 0.3:
        rgb = rgb + rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(0, 0.06))
    return rgb.clip(0, 1)


def _cover(picture: np.ndarray, centre: np.ndarray, radius_deg: float, rng: Rng) -> None:
    """Paints a disc on the sphere: a tripod, a hand, a logo."""
    disc = _RAYS @ centre.astype(np.float32) > math.cos(math.radians(radius_deg))
    picture[disc] = rng.random(3) if rng.random() < 0.6 else 0
