"""Small views of a panorama by table look-up: on one core, for pictures that are drawn by the thousand."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from ..geometry import equirectangular as erp


@lru_cache(maxsize=8)
def erp_rays(height: int) -> np.ndarray:
    """Unit ray of every pixel of a panorama, (H, 2H, 3) float32, as in `geometry.equirectangular`; read-only."""
    rays = erp.rays(height, 2 * height).numpy()
    rays.flags.writeable = False
    return rays


def view(panorama: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """What a panorama (H, 2H, C) shows along unit directions (h, w, 3): bilinear, wrapped around, (h, w, C)."""
    height, width = panorama.shape[:2]
    x, y, z = cv2.split(np.ascontiguousarray(directions, np.float32))
    clockwise = np.asarray(cv2.phase(x, -y), np.float32)  # from the front to the right, in [0, 2π)
    columns = ((clockwise / (2 * np.pi) + 0.5) % 1) * width - 0.5
    rows = (0.5 - np.arcsin(z.clip(-1, 1)) / np.pi) * height - 0.5
    wide = cv2.copyMakeBorder(panorama, 0, 0, 1, 1, cv2.BORDER_WRAP)
    return cv2.remap(wide, columns + 1, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def turned(panorama: np.ndarray, rotation: np.ndarray, height: int) -> np.ndarray:
    """The panorama (height, 2·height, C) of a turned camera: at ray r it shows the given one at rotation·r.

    The same as `models.geometry.equirectangular.rotate`, for arrays.
    """
    return view(panorama, erp_rays(height) @ rotation.T.astype(np.float32))


def rotation_to(up: np.ndarray) -> np.ndarray:
    """The shortest rotation (3, 3) float64 that takes the z axis to the unit vector `up` (Rodrigues' formula)."""
    x, y, z = (float(value) for value in up)
    off_axis = x * x + y * y
    if z < 0 and off_axis < 1e-20:
        return np.diag([1.0, -1.0, -1.0])
    one_plus_z = 1 + z if z > 0 else off_axis / (1 - z)  # without cancellation
    cross = np.array([[0, 0, x], [0, 0, y], [-x, -y, 0]])  # [z × up]×
    return np.eye(3) + cross + cross @ cross / one_plus_z
