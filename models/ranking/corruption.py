"""Controlled damage to a depth map, to see what a ranker can see. `amount` 0 does nothing, 1 is a lot."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

LEVELS = (0.0, 0.25, 0.5, 1.0)


def blurred(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """Edges run into each other: a Gaussian of up to an eighth of the height, wrapped around the seam."""
    height, width = depth_m.shape
    sigma = amount * height / 8
    return cv2.GaussianBlur(np.hstack([depth_m] * 3), (0, 0), max(sigma, 1e-3))[:, width : 2 * width]


def scaled_in_patches(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """Every patch of a grid of 4 × 8 has a scale of its own."""
    factors = np.exp(amount * _normal(4, 8, 0.4)).astype(np.float32)
    height, width = depth_m.shape
    return depth_m * cv2.resize(factors, (width, height), interpolation=cv2.INTER_NEAREST)


def with_a_seam(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """The scale drifts along the horizon, and jumps at the seam."""
    return depth_m * np.exp(amount * np.linspace(-0.5, 0.5, depth_m.shape[1], dtype=np.float32))


def bent(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """Planes are waves: the scale rises and falls three times around and twice from pole to pole."""
    height, width = depth_m.shape
    around = np.cos(3 * 2 * np.pi * np.arange(width, dtype=np.float32) / width)
    down = np.sin(2 * np.pi * (np.arange(height, dtype=np.float32) + 0.5) / height)
    return depth_m * np.exp(0.5 * amount * down[:, None] * around)


def without_objects(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """What is narrower than a part of the height goes into its background: the farthest distance around a pixel."""
    size = 1 + 2 * round(amount * depth_m.shape[0] / 12)
    wide = np.hstack([depth_m] * 3)
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, np.ones((size, size), np.uint8))
    return closed[:, depth_m.shape[1] : 2 * depth_m.shape[1]]


def noisy(depth_m: np.ndarray, amount: float) -> np.ndarray:
    """Every pixel is off by chance."""
    return depth_m * np.exp(amount * _normal(depth_m.shape[0], depth_m.shape[1], 0.3)).astype(np.float32)


def _normal(height: int, width: int, deviation: float) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).normal(0, deviation, (height, width))


CORRUPTIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "blurred": blurred,
    "scaled in patches": scaled_in_patches,
    "with a seam": with_a_seam,
    "bent": bent,
    "without objects": without_objects,
    "noisy": noisy,
}


def corrupted(depth_m: np.ndarray, kind: str, amount: float) -> np.ndarray:
    """Distances (H, W), damaged where they are within the range; inf and missing pixels stay as they are."""
    known = (depth_m > 0) & (depth_m < np.inf)
    if amount == 0 or not known.any():
        return depth_m
    filled = np.where(known, depth_m, depth_m[known].max()).astype(np.float32)
    return np.where(known, CORRUPTIONS[kind](filled, amount), depth_m)
