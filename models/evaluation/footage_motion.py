"""How the camera turned between two frames of footage, and what stayed as it was, found in the pictures alone.

Corners that are tracked from one frame to the next become rays b and b'. Of what is still and far, b' = R b. R is the
rotation of least Σ |b' − R b|, in which what moves by itself, or is near a camera that moves, counts for little: least
squares by Kabsch's algorithm, again and again, with the weights 1 / |b' − R b| of the last time. A camera that walks
along near things on one side is taken to turn: by 1.5° in 0.2 s in a simulated room, by 0.2° in a simulated street.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from ..geometry.equirectangular import rotate

_CORNERS, _QUALITY, _WINDOW = 1000, 0.01, (21, 21)
_BELT = 1 / 6  # of the height, at either pole, is too stretched to be tracked
_BACK = 0.5  # pixels from where it began may a corner come out that is tracked there and back
_LEAST_TRACKS, _FITS = 20, 20
_EXACT = 0.25  # pixels: corners are not tracked any better
_NEAR = math.radians(3)  # that half of the corners, at least, move by less than, once the rotation is taken away
_SAME_COLOUR, _AROUND = 10.0, (5, 5)  # grey levels, mean over a few pixels


def camera_rotation(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """R (3, 3), which takes rays of a frame (H, W, 3) uint8 to those of the next one that look at the same thing.

    None where none is found: between two shots, in fog or darkness, where a camera moves close to nearly everything.
    """
    one, other = _tracks(before, after)
    if len(one) < _LEAST_TRACKS:
        return None
    rotation, off = np.eye(3), np.ones(len(one))
    for _ in range(_FITS):
        rotation = _fitted(one / off.clip(_EXACT * math.pi / len(before))[:, None], other)
        off = np.linalg.norm(one @ rotation.T - other, axis=1)
    return rotation if np.median(off) < _NEAR else None


def same_colour(before: np.ndarray, after: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Where (H, W) a frame looks as the next one does, once that is turned back by the camera's rotation."""
    turned = rotate(torch.from_numpy(after).permute(2, 0, 1)[None].float(), torch.from_numpy(rotation))
    difference = abs(turned[0].permute(1, 2, 0).numpy() - before).mean(axis=-1)
    return cv2.blur(difference, _AROUND) < _SAME_COLOUR


def _tracks(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rays of corners in both frames, (P, 3) each."""
    height, width = before.shape[:2]
    margin, belt = width // 8, round(height * _BELT)
    one, other = (
        cv2.copyMakeBorder(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 0, 0, margin, margin, cv2.BORDER_WRAP)
        for rgb in (before, after)
    )
    mask = np.zeros_like(one)
    mask[belt:-belt, margin:-margin] = 255
    corners = cv2.goodFeaturesToTrack(one, _CORNERS, _QUALITY, max(3, height / 64), mask=mask)
    if corners is None:
        return np.empty((0, 3)), np.empty((0, 3))
    there, found, _ = cv2.calcOpticalFlowPyrLK(one, other, corners, np.empty_like(corners), winSize=_WINDOW, maxLevel=4)
    back, kept, _ = cv2.calcOpticalFlowPyrLK(other, one, there, np.empty_like(corners), winSize=_WINDOW, maxLevel=4)
    whole = np.logical_and(found, kept)[:, 0] & (np.linalg.norm(back - corners, axis=-1)[:, 0] < _BACK)
    return _rays(corners[whole, 0], margin, height, width), _rays(there[whole, 0], margin, height, width)


def _rays(points: np.ndarray, margin: int, height: int, width: int) -> np.ndarray:
    """Unit rays (P, 3) of points (column, row) of the padded picture, in which pixel centres lie at integers."""
    theta = math.pi - 2 * math.pi * (points[:, 0].astype(np.float64) - margin + 0.5) / width
    phi = math.pi / 2 - math.pi * (points[:, 1].astype(np.float64) + 0.5) / height
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)


def _fitted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that brings rays (P, 3), as long as they have weight, nearest to those after."""
    u, _, vt = np.linalg.svd(after.T @ before)
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
