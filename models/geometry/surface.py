"""Panoramas with depth as geometry: coloured points, or a mesh that is cut where one thing stands before another."""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh

from .equirectangular import point_map

_FLATTEST_DEG = 5.0


def coloured_points(rgb: np.ndarray, depth_m: np.ndarray) -> trimesh.PointCloud:
    """Points (x forward, y left, z up, metres) of rgb (H, W, 3) uint8 and depth (H, W), where there is a distance."""
    known = _known(depth_m)
    return trimesh.PointCloud(_points_m(depth_m)[known], colors=rgb[known])


def coloured_mesh(rgb: np.ndarray, depth_m: np.ndarray) -> trimesh.Trimesh:
    """The surface through the same points, closed at the seam, open at the poles, its faces turned to the camera.

    It is cut at depth edges: a triangle that the camera would see at less than 5° is none of a surface.
    """
    faces = surface_triangles(depth_m)
    used, numbers = np.unique(faces, return_inverse=True)
    points_m, colours = _points_m(depth_m).reshape(-1, 3)[used], rgb.reshape(-1, 3)[used]
    return trimesh.Trimesh(points_m, numbers.reshape(faces.shape), vertex_colors=colours, process=False)


def surface_triangles(depth_m: np.ndarray) -> np.ndarray:
    """Triangles (N, 3) of a depth map's surface, as numbers of pixels, row by row.

    Neighbours that are an angle δ = π/H apart lie on a surface seen at the angle α if |ln d₁ − ln d₂| = δ cot α.
    """
    height, width = depth_m.shape
    pixels = np.arange(height * width).reshape(height, width)
    right = np.roll(pixels, -1, axis=1)
    upper = np.stack([pixels[:-1], pixels[1:], right[:-1]], axis=-1)
    lower = np.stack([right[:-1], pixels[1:], right[1:]], axis=-1)
    triangles = np.concatenate([upper, lower]).reshape(-1, 3)
    log_depth = np.log(np.where(_known(depth_m), depth_m, np.inf)).ravel()[triangles]
    with np.errstate(invalid="ignore"):  # inf − inf
        steps = log_depth.max(axis=1) - log_depth.min(axis=1)
    return triangles[steps <= math.pi / height / math.tan(math.radians(_FLATTEST_DEG))]


def _known(depth_m: np.ndarray) -> np.ndarray:
    return np.isfinite(depth_m) & (depth_m > 0)


def _points_m(depth_m: np.ndarray) -> np.ndarray:
    return point_map(torch.from_numpy(np.where(_known(depth_m), depth_m, 0.0)).float()).numpy()
