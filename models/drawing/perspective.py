"""A picture for people of a map and its truth: side by side, pixel by pixel, with where the two differ."""

from __future__ import annotations

import cv2
import numpy as np

_GAP, _HEAD_ROWS = 4, 24
_VOID_RGB = (38, 38, 48)
_WHITE = (255, 255, 255)
_FULL_ERROR = 0.25  # of the truth's span: what is more does not get brighter


def side_by_side(rgb: np.ndarray, truth: np.ndarray, predicted: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Picture, truth, prediction, error and SSIM difference, each at the picture's size, uint8 RGB (H + head, W', 3).

    `truth` and `predicted` (H, W) are of one quantity and drawn on one scale; `difference` (H, W) is (1 − SSIM) / 2.
    What is nan is dark.
    """
    known = truth[np.isfinite(truth)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span = (high - low) or 1.0
    panels = {
        "picture": rgb,
        f"truth, {low:.3g} to {high:.3g}": _coloured((truth - low) / span, cv2.COLORMAP_TURBO),
        "prediction": _coloured((predicted - low) / span, cv2.COLORMAP_TURBO),
        f"error, to {_FULL_ERROR * span:.3g}": _coloured(
            abs(predicted - truth) / (_FULL_ERROR * span), cv2.COLORMAP_INFERNO
        ),
        "(1 - SSIM) / 2": _coloured(difference, cv2.COLORMAP_INFERNO),
    }
    height, gap = rgb.shape[0] + _HEAD_ROWS, np.full((rgb.shape[0] + _HEAD_ROWS, _GAP, 3), _VOID_RGB, np.uint8)
    columns: list[np.ndarray] = []
    for name, panel in panels.items():
        head = np.full((height - len(panel), panel.shape[1], 3), _VOID_RGB, np.uint8)
        cv2.putText(head, name, (4, _HEAD_ROWS - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
        columns += [np.vstack([head, panel]), gap]
    return np.hstack(columns[:-1])


def _coloured(share: np.ndarray, colours: int) -> np.ndarray:
    """A map (H, W) from 0 to 1 as colours."""
    known = np.isfinite(share)
    level = (255 * np.clip(np.where(known, share, 0), 0, 1)).astype(np.uint8)
    rgb = cv2.cvtColor(cv2.applyColorMap(level, colours), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], rgb, np.array(_VOID_RGB, np.uint8))
