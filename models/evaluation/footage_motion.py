"""How the camera turned between two frames of footage, and what stayed as it was, found in the pictures alone.

Corners that are tracked from one frame to the next become rays b and b'. Of what is still and far, b' = R b. R is the
rotation that most of them agree with to within a pixel: the best of those of random pairs, then fitted to all that
agree. What moves by itself, or is so near that the camera's own way shows, does not.
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
_PAIRS = 300
_REFINED = 3
_LEAST_TRACKS, _LEAST_AGREEING = 20, 0.2  # of the tracks
_SAME_COLOUR, _AROUND = 10.0, (5, 5)  # grey levels, mean over a few pixels


def camera_rotation(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """R (3, 3), which takes rays of a frame (H, W, 3) uint8 to those of the next one that look at the same thing.

    None where no rotation is found: between two shots, in fog or darkness. The same frames give the same rotation.
    """
    one, other = _tracks(before, after)
    if len(one) < _LEAST_TRACKS:
        return None
    pixel = math.pi / len(before)
    pairs = np.random.Generator(np.random.PCG64(0)).integers(len(one), size=(_PAIRS, 2))
    agreeing = _agree(one, other, _fitted(one[pairs], other[pairs]), pixel)
    agrees = agreeing[agreeing.sum(axis=-1).argmax()]
    rotation = np.eye(3)
    for _ in range(_REFINED):
        rotation = _fitted(one[agrees], other[agrees])
        agrees = _agree(one, other, rotation, pixel)
    return rotation if agrees.sum() >= max(_LEAST_TRACKS, _LEAST_AGREEING * len(one)) else None


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
    """The rotations (..., 3, 3) that bring rays (..., P, 3) nearest to those after, by Kabsch's algorithm."""
    u, _, vt = np.linalg.svd(np.einsum("...pi,...pj->...ij", after, before))
    handed = np.ones(u.shape[:-1])
    handed[..., 2] = np.linalg.det(u @ vt)
    return (u * handed[..., None, :]) @ vt


def _agree(before: np.ndarray, after: np.ndarray, rotation: np.ndarray, within: float) -> np.ndarray:
    """Which of P rays a rotation (..., 3, 3) brings to within an angle in rad of those after, (..., P)."""
    return np.linalg.norm(before @ rotation.swapaxes(-1, -2) - after, axis=-1) < within
