"""A picture for people of how far a training is: fixed panoramas, their truth, and what is predicted."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from .depth import colour_depth

TITLES = ("panorama", "truth", "prediction", "error: ln, 0 to 0.5", "beyond range: probability")
_TITLE_ROWS = 16
_WORST = 0.5


def training_jpeg(examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> bytes:
    """A row for each example: rgb (H, W, 3) uint8, true and predicted metres (H, W), probabilities of the range mask.

    The truth is nan where it is missing, inf beyond the range.
    """
    rows = [np.hstack([rgb, *_maps(*maps)]) for rgb, *maps in examples]
    width = examples[0][0].shape[1]
    titles = np.full((_TITLE_ROWS, width * len(TITLES), 3), 255, np.uint8)
    for number, title in enumerate(TITLES):
        cv2.putText(titles, title, (number * width + 4, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(np.vstack([titles, *rows])), 90)


def _maps(truth_m: np.ndarray, predicted_m: np.ndarray, beyond: np.ndarray) -> list[np.ndarray]:
    known = np.isfinite(truth_m)
    error = np.abs(np.log(np.where(known, predicted_m, 1.0)) - np.log(np.where(known, truth_m, 1.0)))
    level = (255 * np.clip(error / _WORST, 0, 1)).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    mask = np.repeat((255 * beyond).astype(np.uint8)[..., None], 3, axis=2)
    return [colour_depth(truth_m), colour_depth(predicted_m), heat, mask]
