"""Is a pole at the edge of a picture? What is near it in an equirectangular panorama is stretched along the rows.

At latitude φ a row shows cos φ of the equator's circumference on as many pixels: across the rows there is little change
over that down the columns, and no detail finer than 1/cos φ pixels. A picture that was cut off before the pole, a
cylinder's or a lens's has both. Neither sign is sure where there is little to see, so they are weighed together.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from .projection_measures import changes, quantile

# Logistic regression on the poles of 23 photographed and 40 simulated panoramas, level, turned, coarse, compressed and
# with nadir patches, against the edges of what was cut out of them: weights of `features`, and of the two edges. The
# recipe `embedded` runs such a fit (`projection_poles_fit`); an earlier script with other pictures gave these numbers.
_WEIGHTS = np.array([2.61, 0.89, 0.39])
_BIAS = np.array([7.13, 5.02])
_BANDS = (0, 6), (14, 28)  # rows of 256 whose changes are compared
_ACROSS_FLOOR, _DOWN_FLOOR, _FINE_FLOOR = 0.05, 0.25, 0.25  # grey levels, squared for the last
_FINE_ROWS = range(1, 6)  # of 256
_EQUATOR_ROWS = range(64, 192, 8)
_NOISE_TILES = 12, 32  # down and across, of the picture without a sixth at either pole

Gray = np.ndarray  # float32 (H, 2H), grey levels


def cut_odds(gray: Gray) -> tuple[float, float]:
    """Log odds that the top and the bottom edge are no poles; poles and cuts are taken to be as frequent."""
    top, bottom = features(gray) @ _WEIGHTS + _BIAS
    return float(top), float(bottom)


def features(gray: Gray) -> np.ndarray:
    """Of the top and bottom edge, (2, 3): log of the change across over that down in two bands of rows, fine detail."""
    noise, equator = _noise(gray), _power(gray, _EQUATOR_ROWS)
    return np.array([[*_changes(part, noise), _fine_detail(part, equator, noise)] for part in (gray, gray[::-1])])


def _noise(gray: Gray) -> float:
    """Change across in the quietest places, which a camera's or a codec's noise makes everywhere."""
    middle = gray[len(gray) // 6 : -(len(gray) // 6)]
    change = cv2.absdiff(middle[:, 1:], middle[:, :-1])
    rows, columns = (max(1, size // tiles) * tiles for size, tiles in zip(change.shape, _NOISE_TILES, strict=True))
    return quantile(cv2.resize(change[:rows, :columns], _NOISE_TILES[::-1], interpolation=cv2.INTER_AREA), 0.05)


def _changes(gray: Gray, noise: float) -> list[float]:
    ratios = []
    for first, last in _BANDS:
        rows = gray[first * len(gray) // 256 : max(2, last * len(gray) // 256) + 1]
        across, down = changes(rows)
        ratios.append((max(across - noise, 0) + _ACROSS_FLOOR) / (max(down - noise, 0) + _DOWN_FLOOR))
    return [math.log(ratio) for ratio in ratios]


def _fine_detail(gray: Gray, equator: np.ndarray, noise: float) -> float:
    """Power of what is too fine for a row near a pole, over the power of the same frequencies around the equator."""
    too_fine = _too_fine(len(gray))
    share = too_fine.mean(axis=1)
    parts = (_power(gray, _FINE_ROWS) * too_fine).sum(axis=1), (equator @ too_fine.T).mean(axis=0)
    here, there = (np.maximum(part - share * 0.8 * noise**2, 0) + share * _FINE_FLOOR for part in parts)
    return float(np.log(here / there).mean())


def _power(gray: Gray, rows: range) -> np.ndarray:
    """Of each frequency along some of the rows, given of 256, in squared grey levels: (n, H + 1)."""
    spectrum = np.fft.rfft(gray[[row * len(gray) // 256 for row in rows]], axis=1)
    return 2 * np.abs(spectrum / gray.shape[1]) ** 2


@lru_cache(maxsize=8)
def _too_fine(height: int) -> np.ndarray:
    """Frequencies (n, H + 1) beyond what rows near a pole can show: H cos φ full waves, and a margin."""
    rows = np.array([row * height // 256 for row in _FINE_ROWS])
    limit = 1.3 * height * np.sin(np.pi * (rows + 0.5) / height) + 3
    return (np.arange(height + 1) > limit[:, None]).astype(np.float32)
