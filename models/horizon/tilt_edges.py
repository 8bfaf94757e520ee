"""The up vector of a panorama made precise by its vertical edges, the great circles of which all meet at the zenith.

The gradient of the picture on the sphere is the normal of the great circle that an edge lies on; the normals of
vertical edges are orthogonal to up. Most edges are not vertical, so only those count that nearly are, as seen from an
estimate that is nearly right: the mode of a posterior, found on a grid and by iteratively reweighted least squares
(Holland & Welsch 1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .projection_measures import quantile
from .sphere_view import rotation_to

_SHARE = 0.09  # of the pixels are taken for edges
_MARGIN = 2  # columns that are wrapped around the seam
_STRENGTH_FLOOR = 4.0  # squared grey levels a pixel
_FULL_WEIGHT = 5.0  # grey levels a pixel
_MIN_COSINE = 0.2  # of the latitude: nearer to a pole there is little to see and much noise
_NEAR_UP = 0.02  # squared sine of the angle to up, below which the direction of an edge is uncertain
_SPARSE = 16  # one in so many edges is looked at on the grid
_GRID_DEG = 20.0, 3.0  # radius and step
_GRID_SIGMA_DEG = 3.0
_SIGMAS_DEG = 3.0, 2.0, 2.0  # of the direction of vertical edges, step by step
_TRUST = 0.017  # an edge counts as so many independent ones
_ODDS = 6.0  # density of vertical edges at their peak over that of all others


@dataclass(frozen=True)
class Edges:
    """Unit normals of great circles (3, n), the rays they were seen along (3, n), and weights (n,), all float32."""

    normals: np.ndarray
    rays: np.ndarray
    weights: np.ndarray

    def every(self, step: int) -> Edges:
        return Edges(*(np.ascontiguousarray(part[..., ::step]) for part in (self.normals, self.rays, self.weights)))


def find_edges(rgb: np.ndarray) -> Edges:
    """The clearest edges of a panorama, uint8 RGB (H, 2H, 3), measured against what surrounds them."""
    height = len(rgb)
    latitudes, longitudes = _tables(height)
    gray = cv2.copyMakeBorder(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 0, 0, _MARGIN, _MARGIN, cv2.BORDER_WRAP)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    across /= latitudes[0][:, None]
    power = across * across
    power += down * down
    chosen = _clearest(power, latitudes[0])
    row, column = np.divmod(chosen, gray.shape[1])
    (cos_lat, sin_lat), (cos_lon, sin_lon) = latitudes.take(row, axis=1), longitudes.take(column, axis=1)
    strength = np.sqrt(power.take(chosen))
    east, north = across.take(chosen) / strength, down.take(chosen) / strength
    south = -north * sin_lat
    normals = np.stack([south * cos_lon - east * sin_lon, south * sin_lon + east * cos_lon, north * cos_lat])
    rays = np.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat])
    return Edges(normals, rays, cos_lat * np.minimum(1, strength / _FULL_WEIGHT))


def _clearest(power: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Indices of pixels that stand out from what surrounds them, of the flattened picture."""
    clarity = cv2.blur(power, (len(power) // 4 + 1,) * 2)
    clarity += _STRENGTH_FLOOR
    np.divide(power, clarity, out=clarity)
    clarity *= np.where(cosine > _MIN_COSINE, cosine, 0)[:, None]
    clarity[:, :_MARGIN] = clarity[:, -_MARGIN:] = 0
    return np.flatnonzero(clarity > max(1e-6, quantile(clarity[::4, 1::4], 1 - _SHARE)))


def sharpened(evidence: np.ndarray, edges: Edges) -> np.ndarray:
    """The unit up vector (3,) by an estimate, `evidence`, κμ of a von Mises-Fisher distribution, and by the edges."""
    rotation = rotation_to(evidence / np.linalg.norm(evidence))
    candidates = _grid() @ rotation.T
    support = _log_density(edges.every(_SPARSE), candidates.astype(np.float32))
    up = candidates[np.argmax(support + candidates @ evidence)]
    for sigma_deg in _SIGMAS_DEG:
        up = _step(edges, up, evidence, sigma_deg)
    return up


def _log_density(edges: Edges, up: np.ndarray) -> np.ndarray:
    """Of the edges, where up is each of the unit vectors (m, 3)."""
    odds = _ODDS * np.exp(_deviation(edges, up)[0] / (-2 * _squared_sine(_GRID_SIGMA_DEG)))
    return _TRUST * (np.log1p(odds) @ edges.weights)


def _step(edges: Edges, up: np.ndarray, evidence: np.ndarray, sigma_deg: float) -> np.ndarray:
    """The next up vector: (Σ ω n nᵀ + κ) u = κμ, where ω is the chance that an edge is vertical over its variance."""
    deviation, nearness = _deviation(edges, up.astype(np.float32))
    variance = _squared_sine(sigma_deg)
    odds = _ODDS * np.exp(deviation / (-2 * variance))
    weights = _TRUST / variance * edges.weights * nearness * odds / (1 + odds)
    information = (edges.normals * weights) @ edges.normals.T
    better = np.linalg.solve(information + np.linalg.norm(evidence) * np.eye(3), evidence)
    return better / np.linalg.norm(better)


def _deviation(edges: Edges, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared sine of the angle between edges and the meridians of `up`, (n,) or (m, n); and what it was scaled by."""
    nearness = 1 / (1 + np.float32(_NEAR_UP) - (up @ edges.rays) ** 2)
    return (up @ edges.normals) ** 2 * nearness, nearness


def _squared_sine(angle_deg: float) -> np.float32:
    return np.float32(math.sin(math.radians(angle_deg)) ** 2)


@lru_cache(maxsize=4)
def _tables(height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the latitude of every row (2, H), and of the longitude of every column, margins too."""
    rows, columns = np.arange(height) + 0.5, np.arange(-_MARGIN, 2 * height + _MARGIN) + 0.5
    angles = np.pi * (0.5 - rows / height), np.pi * (1 - columns / height)
    latitudes, longitudes = (np.stack([np.cos(part), np.sin(part)]).astype(np.float32) for part in angles)
    return latitudes, longitudes


@lru_cache(maxsize=1)
def _grid() -> np.ndarray:
    """Directions around the z axis."""
    radius, step = _GRID_DEG
    ticks = np.radians(np.arange(-radius, radius + 1e-9, step))
    x, y = np.meshgrid(ticks, ticks)
    x, y = x[np.hypot(x, y) <= math.radians(radius)], y[np.hypot(x, y) <= math.radians(radius)]
    angle = np.hypot(x, y)
    return np.stack([np.sinc(angle / np.pi) * x, np.sinc(angle / np.pi) * y, np.cos(angle)], axis=1)
