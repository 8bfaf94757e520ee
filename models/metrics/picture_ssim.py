"""Structural similarity of maps of perspective pictures, with scikit-image's default settings.

Wang et al. (2004), eq. 13, as `skimage.metrics.structural_similarity` has it: a flat window of 7×7 pixels, variances of
a sample (49 / 48), K₁ = 0.01 and K₂ = 0.03, maps mirrored at their borders, and the mean over all pixels but the outer
three. Its data range has to be said: here it is that of the truth. Panoramas have their own (`models.metrics.ssim`).
"""

import cv2
import numpy as np

_WINDOW = 7
_SAMPLE = _WINDOW**2 / (_WINDOW**2 - 1)


def picture_ssim(prediction: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean over what is known, nan if that is nothing, and the map (H, W), nan where nothing is known.

    `prediction` and `truth` (H, W) are of one quantity. Where the truth is not known both count as 0, so that holes are
    alike; a map without holes gives scikit-image's figure.
    """
    p, t = (np.where(known, values, 0).astype(np.float64) for values in (prediction, truth))
    data_range = float(np.ptp(truth[known])) if known.any() else 0.0
    c1, c2 = ((k * (data_range or 1.0)) ** 2 for k in (0.01, 0.03))
    mean_p, mean_t = _blur(p), _blur(t)
    variance_p, variance_t = (_SAMPLE * (_blur(v * v) - m * m) for v, m in ((p, mean_p), (t, mean_t)))
    covariance = _SAMPLE * (_blur(p * t) - mean_p * mean_t)
    similarity = ((2 * mean_p * mean_t + c1) * (2 * covariance + c2)) / (
        (mean_p**2 + mean_t**2 + c1) * (variance_p + variance_t + c2)
    )
    similarity[~known] = np.nan
    inside = similarity[_WINDOW // 2 : -(_WINDOW // 2), _WINDOW // 2 : -(_WINDOW // 2)]
    values = inside[np.isfinite(inside)]
    return float(values.mean()) if values.size else float("nan"), similarity


def _blur(values: np.ndarray) -> np.ndarray:
    return cv2.blur(values, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)
