"""Level panoramas made of others, so that few teach much and no single cue decides which way is up.

They are mixed by sectors of longitude, given another ground, stretched, their skylines bent and their light changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .sphere_view import erp_rays
from .tilt_network import VIEW_HEIGHT

SIZE = (VIEW_HEIGHT, 2 * VIEW_HEIGHT)
_HORIZON = VIEW_HEIGHT // 2
_PHOTOGRAPHED = 0.6  # of what is picked, where there are photographs
_LATITUDES = np.pi * (0.5 - (np.arange(SIZE[0]) + 0.5) / SIZE[0])
_TURNS = 2 * np.pi * (np.arange(SIZE[1]) + 0.5) / SIZE[1]

Rng = np.random.Generator


class Worlds:
    """Draws level panoramas, uint8 RGB, of groups of them; every group counts the same, however large."""

    def __init__(self, simulated: Sequence[np.ndarray], photographed: Sequence[Sequence[np.ndarray]] = ()):
        self._simulated = [_small(rgb) for rgb in simulated]
        self._photographed = [[_small(rgb) for rgb in group] for group in photographed]
        if not self._simulated and not self._photographed:
            raise ValueError("no panoramas to learn from")

    def pick(self, rng: Rng) -> np.ndarray:
        """A panorama as it is, looking anywhere, or its mirror image."""
        group = self._simulated
        if self._photographed and (not group or rng.random() < _PHOTOGRAPHED):
            group = self._photographed[rng.integers(len(self._photographed))]
        rgb = np.roll(group[rng.integers(len(group))], rng.integers(SIZE[1]), axis=1)
        return np.ascontiguousarray(rgb[:, ::-1] if rng.random() < 0.5 else rgb)

    def mixed(self, rng: Rng) -> np.ndarray:
        """A new panorama made of some."""
        rgb = self.pick(rng)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            start, width = rng.integers(SIZE[1]), rng.integers(20, 110)
            sector = (start + np.arange(width)) % SIZE[1]
            rgb[:, sector] = self.pick(rng)[:, sector]
        if rng.random() < 0.2:
            rgb[_HORIZON:] = self._ground(rgb, rng)
        if rng.random() < 0.3:
            rgb = _with_hills(rgb, rng)
        return _relit(rgb, rng) if rng.random() < 0.3 else rgb

    def _ground(self, rgb: np.ndarray, rng: Rng) -> np.ndarray:
        """What may be below the horizon: another panorama's, water that mirrors the sky, or sand, snow and grass."""
        kind = rng.integers(3)
        if kind == 0:
            return self.pick(rng)[_HORIZON:]
        reflected = rng.uniform(0.3, 0.9) if kind == 1 else 0.0
        below = reflected * rgb[_HORIZON - 1 :: -1] + (1 - reflected) * rng.uniform(0, 230) * rng.uniform(0.7, 1.1, 3)
        return np.clip(below * _ripples(rng)[..., None], 0, 255).astype(np.uint8)


def stretching(rng: Rng) -> np.ndarray:
    """A matrix (3, 3) for directions as in a world that is wider or higher: verticals and the horizon stay."""
    return np.diag(np.exp(rng.normal(0, 0.25, 3)))


def _small(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, SIZE[::-1], interpolation=cv2.INTER_AREA)


def _ripples(rng: Rng) -> np.ndarray:
    """Brightness of a ground (_HORIZON, W), in spots that look flatter towards the horizon."""
    spots = rng.normal(1, rng.uniform(0, 0.3), (rng.integers(8, _HORIZON), rng.integers(8, SIZE[1])))
    return cv2.resize(spots, (SIZE[1], _HORIZON))


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
    light = np.exp((erp_rays(VIEW_HEIGHT) @ towards).clip(-1.5, 1.5))
    return np.clip(rgb * light[..., None], 0, 255).astype(np.uint8)
