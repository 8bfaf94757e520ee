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

from models.horizon.projection_measures import quantile
from models.horizon.sphere_view import erp_rays, rotation_to

_SHARE = 0.09  # of the pixels are taken for edges
_MARGIN = 2  # columns that are wrapped around the seam
_STRENGTH_FLOOR = 4.0  # squared grey levels a pixel
_FULL_WEIGHT = 5.0  # grey levels a pixel
_MIN_COSINE = 0.2  # of the latitude: nearer to a pole there is little to see and much noise
_NEAR_UP = 0.02  # squared sine of the angle to up, below which the direction of an edge tells little
_SPARSE = 8  # one in so many edges is looked at on the grid
_GRID_DEG = 20.0, 3.0  # radius and step
_GRID_SIGMA_DEG = 3.0
_SIGMAS_DEG = 4.0, 3.0, 2.0, 2.0  # of the direction of vertical edges, step by step
_TRUST = 0.017  # an edge counts as so many independent ones
_ODDS = 6.0  # density of vertical edges at their peak over that of all others


@dataclass(frozen=True)
class Edges:
    """Unit normals of great circles (n, 3), the rays they were seen along (n, 3), and weights (n,), all float32."""

    normals: np.ndarray
    rays: np.ndarray
    weights: np.ndarray


def find_edges(rgb: np.ndarray) -> Edges:
    """The clearest edges of a panorama, uint8 RGB (H, 2H, 3), measured against what surrounds them."""
    height = len(rgb)
    cosine, east, north = _tables(height)
    gray = cv2.copyMakeBorder(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 0, 0, _MARGIN, _MARGIN, cv2.BORDER_WRAP)
    across, down = (_inner(cv2.Sobel(gray, cv2.CV_32F, *order, ksize=3, scale=1 / 8)) for order in ((1, 0), (0, 1)))
    across /= cosine
    power = across * across + down * down
    clarity = power / (cv2.blur(power, (height // 4 + 1,) * 2) + _STRENGTH_FLOOR) * _visible(cosine)
    chosen = np.flatnonzero(clarity > max(1e-6, quantile(clarity[::4, 1::4], 1 - _SHARE)))
    strength = np.sqrt(power.ravel()[chosen])
    towards_east, towards_north = (part.ravel()[chosen] / strength for part in (across, down))
    normals = towards_east[:, None] * east.take(chosen % (2 * height), axis=0)
    normals += towards_north[:, None] * north.take(chosen, axis=0)
    weights = cosine[:, 0].take(chosen // (2 * height)) * np.minimum(1, strength / _FULL_WEIGHT)
    return Edges(normals, erp_rays(height).reshape(-1, 3).take(chosen, axis=0), weights)


def sharpened(evidence: np.ndarray, edges: Edges) -> np.ndarray:
    """The unit up vector (3,) by an estimate, `evidence`, κμ of a von Mises-Fisher distribution, and by the edges."""
    rotation = rotation_to(evidence / np.linalg.norm(evidence))
    candidates = _grid() @ rotation.T
    few = Edges(*(np.ascontiguousarray(part[::_SPARSE]) for part in (edges.normals, edges.rays, edges.weights)))
    support = _log_density(few, candidates.astype(np.float32))
    up = candidates[np.argmax(support + candidates @ evidence)]
    for sigma_deg in _SIGMAS_DEG:
        up = _step(edges, up, evidence, sigma_deg)
    return up


def _log_density(edges: Edges, up: np.ndarray) -> np.ndarray:
    """Of the edges, where up is each of the unit vectors (m, 3)."""
    odds = _ODDS * np.exp(_deviation(edges, up.T)[0] / (-2 * _squared_sine(_GRID_SIGMA_DEG)))
    return _TRUST * (edges.weights @ np.log1p(odds))


def _step(edges: Edges, up: np.ndarray, evidence: np.ndarray, sigma_deg: float) -> np.ndarray:
    """The next up vector: (Σ ω n nᵀ + κ) u = κμ, where ω is the chance that an edge is vertical over its variance."""
    deviation, nearness = _deviation(edges, up.astype(np.float32))
    variance = _squared_sine(sigma_deg)
    odds = _ODDS * np.exp(deviation / (-2 * variance))
    weights = _TRUST / variance * edges.weights * nearness * odds / (1 + odds)
    information = (edges.normals * weights[:, None]).T @ edges.normals
    better = np.linalg.solve(information + np.linalg.norm(evidence) * np.eye(3), evidence)
    return better / np.linalg.norm(better)


def _deviation(edges: Edges, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared sine of the angle between edges and the meridians of `up`, (n,) or (n, m); and what it was scaled by."""
    nearness = 1 / (1 + np.float32(_NEAR_UP) - (edges.rays @ up) ** 2)
    return (edges.normals @ up) ** 2 * nearness, nearness


def _squared_sine(angle_deg: float) -> np.float32:
    return np.float32(math.sin(math.radians(angle_deg)) ** 2)


def _inner(maps: np.ndarray) -> np.ndarray:
    return maps[:, _MARGIN:-_MARGIN]


def _visible(cosine: np.ndarray) -> np.ndarray:
    return np.where(cosine > _MIN_COSINE, cosine, 0)


@lru_cache(maxsize=4)
def _tables(height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine of the latitude (H, 1); unit vectors to the east of every column (2H, 3), to the north of every pixel."""
    rays = erp_rays(height)
    cosine = np.hypot(rays[..., 0], rays[..., 1])[:, :1]
    east = rays[height // 2] @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], np.float32)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(rays, np.broadcast_to(east, rays.shape)).reshape(-1, 3).astype(np.float32)
    return cosine, east, north


@lru_cache(maxsize=1)
def _grid() -> np.ndarray:
    """Directions around the z axis."""
    radius, step = _GRID_DEG
    ticks = np.radians(np.arange(-radius, radius + 1e-9, step))
    x, y = np.meshgrid(ticks, ticks)
    x, y = x[np.hypot(x, y) <= math.radians(radius)], y[np.hypot(x, y) <= math.radians(radius)]
    angle = np.hypot(x, y)
    return np.stack([np.sinc(angle / np.pi) * x, np.sinc(angle / np.pi) * y, np.cos(angle)], axis=1)
