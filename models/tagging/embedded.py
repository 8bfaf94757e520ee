"""A tagger for machines without Qwen2-VL's weights: a logistic regression on seven cues of a level panorama.

It sees colour, light and texture, not things; where its answer matters, use Qwen2-VL.

The coefficients were fitted, with an L2 penalty and varied exposure, tint, noise and blur, to half of a small set of
real panoramas (photographs and video frames, day and night) and of simulator renders of both looks. On the other half
it was right, at p = 0.5, for 19 of 20 photographs and 82 of 85 renders; on 100 renders made later, for 97. The cues
were chosen with both halves in view, so expect less on other photographs. Half-open places (a glasshouse, a glazed
bridge) it takes for outdoors, and it was wrong on 2 of 4 such photographs. Of 39 real panoramas `dap try tag --truth`
found 36 right, with an expected calibration error of 0.055; some of them were in the half that it was fitted to.

`models.tagging.fit` fits such coefficients; the recipe `embedded` runs it. Those here were fitted by an earlier script
with other pictures and another penalty, so a new fit does not give the same numbers.
"""

from typing import ClassVar

import cv2
import numpy as np

_HEIGHT, _WIDTH = 128, 256
_LATITUDE_DEG = 90 - 180 * (np.arange(_HEIGHT) + 0.5) / _HEIGHT
_ROW_WEIGHT = np.cos(np.radians(_LATITUDE_DEG))  # the solid angle of a row, up to a factor
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_MIN_ROW_WEIGHT = 0.15  # keeps gradients finite where the meridians meet
_SKYLINE_STEP = 4  # rows; 5.6°

_INTERCEPT = 5.66
_COEFFICIENTS = {
    "sky_blue": -15.88,
    "sky_ground_blue": -13.9,
    "lamp_falloff": 4.83,
    "high_verticals": -44.84,
    "skyline_spread": 2.24,
    "horizon_break": -6.1,
    "ground_detail": 2.3,
}


class EmbeddedScene:
    """Log-odds of being indoors from `cues`; deterministic, a few milliseconds a panorama."""

    name: ClassVar[str] = "embedded-v1"

    def prepare(self, rgb: np.ndarray) -> float:
        """The log-odds of an uint8 RGB panorama (H, W, 3), any size."""
        values = cues(rgb)
        return _INTERCEPT + sum(_COEFFICIENTS[name] * value for name, value in values.items())

    def log_odds(self, prepared: list[float]) -> list[float]:
        """All there is to do is done."""
        return prepared


def cues(rgb: np.ndarray) -> dict[str, float]:
    """Cues of a panorama, uint8 RGB (H, W, 3), from a copy of 128×256; means are weighted by solid angle.

    sky_blue: hue of the bluest part of what is overhead.
    sky_ground_blue: how much bluer the upper part is than the lower.
    lamp_falloff: how unevenly what is overhead is lit, at a large scale, as lamps light a ceiling.
    high_verticals: upright edges well above the horizon, as of trees and facades against the sky.
    skyline_spread: how much the height differs at which each column darkens most.
    horizon_break: change of hue across the horizon, which walls cross unchanged.
    ground_detail: fine texture below the horizon.
    """
    image = cv2.resize(rgb, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    blueness = (image[..., 2] - image[..., 0]) / (image.sum(axis=-1) + 0.1)
    log_luma = np.log(image @ _LUMA + 0.05)
    coarse = cv2.GaussianBlur(log_luma, (0, 0), 5)[_band(30, 90)]
    detail = np.abs(log_luma - cv2.GaussianBlur(log_luma, (0, 0), 1.5))
    return {
        "sky_blue": float(np.percentile(blueness[_band(20, 90)], 85)),
        "sky_ground_blue": _mean(blueness, 20, 90) - _mean(blueness, -55, -15),
        "lamp_falloff": float(np.percentile(coarse, 95) - np.percentile(coarse, 30)),
        "high_verticals": _high_verticals(log_luma),
        "skyline_spread": _skyline_spread_deg(log_luma) / 10,
        "horizon_break": _horizon_break(image),
        "ground_detail": float(np.log(_mean(detail, -55, -15) + 0.003)),
    }


def _high_verticals(log_luma: np.ndarray) -> float:
    """90th percentile over columns of the horizontal gradient on the sphere, averaged along each column."""
    across = (np.roll(log_luma, -1, axis=1) - np.roll(log_luma, 1, axis=1)) / 2
    on_sphere = (across / np.maximum(_ROW_WEIGHT, _MIN_ROW_WEIGHT)[:, None]).clip(-1.5, 1.5)
    return float(np.percentile(np.abs(on_sphere[_band(25, 60)].mean(axis=0)), 90))


def _skyline_spread_deg(log_luma: np.ndarray) -> float:
    """Standard deviation over columns of the latitude of the largest darkening downwards, between 60° and −5°."""
    smooth = cv2.GaussianBlur(log_luma, (0, 0), 1)
    darkening = (smooth - np.roll(smooth, -_SKYLINE_STEP, axis=0))[_band(-5, 60)]
    return float(_LATITUDE_DEG[_band(-5, 60)][darkening.argmax(axis=0)].std())


def _horizon_break(image: np.ndarray) -> float:
    """Median over columns of the difference in chromaticity between just above and just below the horizon."""
    above, below = (image[_band(*band)].mean(axis=0) for band in ((8, 20), (-20, -8)))
    chroma_above, chroma_below = (color / (color.sum(axis=1, keepdims=True) + 0.1) for color in (above, below))
    return float(np.median(np.abs(chroma_above - chroma_below).sum(axis=1)))


def _band(low_deg: float, high_deg: float) -> np.ndarray:
    """Mask (H,) of the rows between two latitudes."""
    return (low_deg <= _LATITUDE_DEG) & (high_deg >= _LATITUDE_DEG)


def _mean(values: np.ndarray, low_deg: float, high_deg: float) -> float:
    """Mean over the sphere between two latitudes."""
    rows = _band(low_deg, high_deg)
    return float(np.average(values[rows].mean(axis=1), weights=_ROW_WEIGHT[rows]))
