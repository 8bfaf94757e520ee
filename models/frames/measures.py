"""What a frame is worth, apart from its projection: brightness, flatness, sharpness. All from one small picture.

Pixels count by the solid angle they cover, so that the stretched poles do not outweigh what lies around the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

_SPARSE = 4  # brightness and flatness are measured on every 4th row and column
_ONE_COLOUR = 8  # grey levels around the most frequent colour: a codec's ringing around letters stays inside
_COARSER = 8  # scale of the detail that sharpness is compared with: blurs that matter leave that alone
_MIN_HEIGHT = 128  # of a picture whose sharpness can be measured
_TILES = (8, 16)  # of the belt between 45° south and 45° north, where a panorama is hardly stretched
_BUSY = 2.0  # grey levels of coarse detail that a tile needs to count
_FEW_TILES = 4
_SECOND_DIFFERENCES = (np.array([[1, -2, 1]], np.float32), np.array([[1], [-2], [1]], np.float32))


@dataclass(frozen=True)
class FrameMeasures:
    """Of one frame.

    brightness: grey level that one percent of the sphere exceeds. flat_share: share of the sphere that is of about the
    most frequent colour. sharpness: fine over coarse detail, across or down, whichever has less of it, where there is
    most: 0.4 and up for real panoramas, fogs and nights among them, 0.21 at most when they are blurred by a degree
    (standard deviation). None where there is too little detail, or the picture is too small.
    """

    brightness: float
    flat_share: float
    sharpness: float | None

    def rounded(self) -> dict[str, float | None]:
        """All numbers, rounded for storage."""
        return {name: None if value is None else round(value, 4) for name, value in vars(self).items()}


def measure_frame(rgb: np.ndarray) -> FrameMeasures:
    """Measures a small panorama, uint8 RGB (h, 2h, 3), such as `models.horizon.projection_measures.canvas` makes."""
    sparse = np.ascontiguousarray(rgb[_SPARSE // 2 :: _SPARSE, _SPARSE // 2 :: _SPARSE])
    return FrameMeasures(_brightness(sparse), _flat_share(sparse), _sharpness(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))


@lru_cache(maxsize=4)
def _solid_angles(height: int, width: int) -> np.ndarray:
    """Share of the sphere of every pixel, row by row, (height * width,)."""
    rows = np.cos((np.arange(height) + 0.5) / height * np.pi - np.pi / 2)
    return np.repeat(rows / rows.sum() / width, width)


def _brightness(rgb: np.ndarray) -> float:
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(gray.ravel(), weights=_solid_angles(*gray.shape), minlength=256)
    return float(np.searchsorted(np.cumsum(shares), 0.99))


def _flat_share(rgb: np.ndarray) -> float:
    cells = rgb.reshape(-1, 3).astype(np.int32) >> 3
    shares = _solid_angles(*rgb.shape[:2])
    fullest = int(np.bincount(cells @ (1 << 10, 1 << 5, 1), weights=shares).argmax())
    colour = np.array([fullest >> 10, fullest >> 5 & 31, fullest & 31]) * 8.0 + 3.5
    lower, upper = np.clip(colour - _ONE_COLOUR, 0, 255), np.clip(colour + _ONE_COLOUR, 0, 255)
    return float(shares[cv2.inRange(rgb, lower, upper).ravel() > 0].sum())


def _sharpness(gray: np.ndarray) -> float | None:
    if len(gray) < _MIN_HEIGHT:
        return None
    fine = gray[len(gray) // 4 : -len(gray) // 4].astype(np.float32)
    size = (fine.shape[1] // _COARSER, fine.shape[0] // _COARSER)
    coarse = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    ratios = [_ratio(_detail(fine, kernel), _detail(coarse, kernel)) for kernel in _SECOND_DIFFERENCES]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _detail(gray: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Root mean square of the second difference in every tile, (rows, columns): one sharp edge makes a tile sharp."""
    rows, columns = _TILES
    return np.sqrt(cv2.resize(cv2.filter2D(gray, -1, kernel) ** 2, (columns, rows), interpolation=cv2.INTER_AREA))


def _ratio(fine: np.ndarray, coarse: np.ndarray) -> float | None:
    busy = coarse > _BUSY
    return float(np.quantile(fine[busy] / coarse[busy], 0.75)) if busy.sum() >= _FEW_TILES else None
