"""Rays of an equirectangular camera in world axes: x forward, y left, z up."""

from functools import lru_cache

import numpy as np


def directions(rows: np.ndarray, columns: np.ndarray, height: int) -> np.ndarray:
    """Unit rays (N, 3), float32, through continuous pixel coordinates (row 0.5 is the first pixel centre)."""
    longitude = np.pi - np.pi * columns / height
    latitude = np.pi / 2 - np.pi * rows / height
    cos_latitude = np.cos(latitude)
    rays = (cos_latitude * np.cos(longitude), cos_latitude * np.sin(longitude), np.sin(latitude))
    return np.stack(rays, axis=-1).astype(np.float32)


@lru_cache(maxsize=4)
def centre_directions(height: int) -> np.ndarray:
    """Unit rays (H * 2H, 3) through the pixel centres, row by row; read-only."""
    rows, columns = np.mgrid[0:height, 0 : 2 * height]
    rays = directions(rows.ravel() + 0.5, columns.ravel() + 0.5, height)
    rays.flags.writeable = False
    return rays


def rotation(yaw_rad: float = 0.0, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> np.ndarray:
    """Camera-to-world rotation (3, 3): roll lowers the right side, then pitch looks up, then yaw turns left."""
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cp, sp = np.cos(pitch_rad), np.sin(pitch_rad)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return (yaw @ pitch @ roll).astype(np.float32)


def turned(rays: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Rays (N, 3) through a rotation (3, 3); not by BLAS, whose threads cost more than they give here."""
    return np.einsum("ij,kj->ik", rays, matrix)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row-wise products (N,) of vectors (N, 3)."""
    return np.einsum("ij,ij->i", a, b)


def normalised(a: np.ndarray) -> np.ndarray:
    """Vectors (N, 3) scaled to unit length; zero vectors stay finite."""
    return a / np.sqrt(np.maximum(dot(a, a), 1e-18))[:, None]
