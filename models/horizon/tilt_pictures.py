"""Pictures that the tilt network learns from, made of level panoramas: turned ones whose up vector is known, and parts.

Panoramas are mixed by sectors of longitude, their skylines bent and their light changed while they are level, so that
few teach much and no single cue decides; then they are turned, developed anew, and covered in places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from models.erp import rotation_matrix
from models.horizon.sphere_view import erp_rays, rotation_to, turned, view
from models.horizon.tilt_network import KINDS, VIEW_HEIGHT

SIZE = (VIEW_HEIGHT, 2 * VIEW_HEIGHT)
_RAYS = erp_rays(VIEW_HEIGHT)
_LATITUDES = np.pi * (0.5 - (np.arange(SIZE[0]) + 0.5) / SIZE[0])
_TURNS = 2 * np.pi * (np.arange(SIZE[1]) + 0.5) / SIZE[1]
_LEAST_MISSING_DEG = 18.0  # of the height; less is a nadir patch

Rng = np.random.Generator


class TiltPictures:
    """Draws pictures, uint8 RGB, from groups of level panoramas; every group counts the same, however large."""

    def __init__(self, simulated: Sequence[np.ndarray], photographed: Sequence[Sequence[np.ndarray]] = ()):
        self._simulated = [_small(rgb) for rgb in simulated]
        self._photographed = [[_small(rgb) for rgb in group] for group in photographed]
        if not self._simulated and not self._photographed:
            raise ValueError("no panoramas to learn from")

    def whole(self, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """A turned panorama (VIEW_HEIGHT, 2·VIEW_HEIGHT, 3) float32 in [0, 1], and its up vector (3,)."""
        tilt, towards = math.radians(_tilt_deg(rng)), rng.uniform(0, 2 * np.pi)
        up = np.array([math.sin(tilt) * math.cos(towards), math.sin(tilt) * math.sin(towards), math.cos(tilt)])
        picture = turned(self._world(rng), rotation_to(up).T, VIEW_HEIGHT)
        return _spoilt(picture, rng), up

    def other(self, kind: str, rng: Rng) -> np.ndarray:
        """A part of a panorama stretched to 2:1, or a perspective picture, float32 in [0, 1]."""
        directions = _part(rng) if kind == "partial" else _lens(rng)
        world = self._world(rng) if rng.random() < 0.3 else self._pick(rng)
        return _spoilt(view(world, directions), rng)

    def draw(self, kind: str, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """A picture of one of KINDS and its up vector; zeros where it has none."""
        return self.whole(rng) if kind == KINDS[0] else (self.other(kind, rng), np.zeros(3))

    def _pick(self, rng: Rng) -> np.ndarray:
        """A panorama, looking anywhere, or its mirror image."""
        group = self._simulated
        if self._photographed and (not group or rng.random() < 0.4):
            group = self._photographed[rng.integers(len(self._photographed))]
        rgb = np.roll(group[rng.integers(len(group))], rng.integers(SIZE[1]), axis=1)
        return np.ascontiguousarray(rgb[:, ::-1] if rng.random() < 0.5 else rgb)

    def _world(self, rng: Rng) -> np.ndarray:
        rgb = self._pick(rng)
        for _ in range(rng.choice([0, 0, 1, 2])):
            start, width = rng.integers(SIZE[1]), rng.integers(20, 110)
            sector = (start + np.arange(width)) % SIZE[1]
            rgb[:, sector] = self._pick(rng)[:, sector]
        if rng.random() < 0.4:
            rgb = _with_hills(rgb, rng)
        return _relit(rgb, rng) if rng.random() < 0.35 else rgb


def _small(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, SIZE[::-1], interpolation=cv2.INTER_AREA)


def _tilt_deg(rng: Rng) -> float:
    """A third nearly level, half anywhere up to lying on the side, the rest anywhere on the sphere."""
    choice = rng.random()
    if choice < 0.3:
        return min(90.0, abs(rng.normal(0, 8)))
    return rng.uniform(0, 90) if choice < 0.85 else math.degrees(math.acos(rng.uniform(-1, 1)))


def _with_hills(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Columns moved up and down by a smooth curve: verticals stay vertical, the skyline does not stay level."""
    waves = ((0, 4), (1, 10), (2, 5), (3, 3))  # number around the horizon, degrees
    shift = sum(rng.normal(0, deg) * np.cos(k * _TURNS + rng.uniform(0, 2 * np.pi)) for k, deg in waves)
    rows = np.arange(SIZE[0])[:, None] + np.clip(shift, -25, 25) * SIZE[0] / 180 * np.cos(_LATITUDES)[:, None]
    columns = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32), SIZE)
    return cv2.remap(
        rgb, columns, rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )  # fmt: skip


def _relit(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Light from elsewhere, from below, too."""
    towards = rng.normal(0, (0.35, 0.35, 0.6)).astype(np.float32)
    return np.clip(rgb * np.exp((_RAYS @ towards).clip(-1.5, 1.5))[..., None], 0, 255).astype(np.uint8)


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
    if rng.random() >= 0.35:
        return rgb
    factor = rng.uniform(1, 3.5)
    size = int(SIZE[1] / factor), int(SIZE[0] / factor)
    return cv2.resize(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), SIZE[::-1])


def _developed(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    choice = rng.random()
    if choice < 0.3:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif choice < 0.65:
        rgb = cv2.transform(rgb, np.eye(3) + rng.normal(0, 0.12, (3, 3))).clip(0, None)
    gains = (2 ** rng.normal(0, 0.3) * (1 + rng.normal(0, 0.08, 3))).astype(np.float32)
    rgb = cv2.pow(np.asarray(rgb, np.float32), 2 ** rng.normal(0, 0.5)) * gains + np.float32(rng.normal(0, 0.05))
    if rng.random() < 0.4:
        rgb = rgb + rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(0, 0.06))
    return rgb.clip(0, 1)


def _cover(picture: np.ndarray, centre: np.ndarray, radius_deg: float, rng: Rng) -> None:
    """Paints a disc on the sphere: a tripod, a hand, a logo."""
    disc = _RAYS @ centre.astype(np.float32) > math.cos(math.radians(radius_deg))
    picture[disc] = rng.random(3) if rng.random() < 0.6 else 0
