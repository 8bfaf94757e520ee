"""Pictures for people: depth as colour, and models side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import pyplot as plt

from .png import figure_png

_NEAREST_M, _FARTHEST_M = 0.3, 100.0
_SKY_RGB = (38, 38, 48)
_LABELLED_M = (0.3, 1, 3, 10, 30, 100)
_LEAST_BAR_ROWS = 24


def colour_depth(depth_m: np.ndarray) -> np.ndarray:
    """Depth (H, W) in metres to (H, W, 3) uint8: near is warm, far is cool on a logarithmic scale, beyond is dark."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    position = np.log(np.where(known, depth_m, 1.0) / _NEAREST_M) / np.log(_FARTHEST_M / _NEAREST_M)
    level = (255 * (1 - np.clip(position, 0, 1))).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colours, np.array(_SKY_RGB, np.uint8))


def depth_picture(depth_m: np.ndarray, rgb: np.ndarray | None = None) -> np.ndarray:
    """Depth (H, W) in metres as colours above a bar that says which is how far, uint8 RGB (H', W, 3) with H' even.

    With `rgb` (H, W, 3), that is above them.
    """
    pictures = ([] if rgb is None else [rgb]) + [colour_depth(depth_m)]
    rows = sum(len(picture) for picture in pictures)
    bar_rows = max(_LEAST_BAR_ROWS, len(depth_m) // 16)
    return np.vstack([*pictures, _bar(bar_rows + (rows + bar_rows) % 2, depth_m.shape[1])])


def _bar(rows: int, width: int) -> np.ndarray:
    """All colours from near to far, and under them as many of the distances as there is room for."""
    span = np.log(_FARTHEST_M / _NEAREST_M)
    scale_m = _NEAREST_M * np.exp(span * (np.arange(width) + 0.5) / width)
    bar = np.full((rows, width, 3), _SKY_RGB, np.uint8)
    bar[: rows // 2] = colour_depth(scale_m.astype(np.float32)[None])
    font, size, end = cv2.FONT_HERSHEY_SIMPLEX, rows / 72, 0
    for distance_m in _LABELLED_M:
        text = f"{distance_m:g} m"
        (text_width, _), _ = cv2.getTextSize(text, font, size, 1)
        centre = width * np.log(distance_m / _NEAREST_M) / span
        left = int(min(max(centre - text_width / 2, 0), width - text_width))
        if left >= end:
            cv2.putText(bar, text, (left, rows - rows // 8), font, size, (255, 255, 255), 1, cv2.LINE_AA)
            end = left + text_width + rows // 4
    return bar


def comparison_png(examples: Sequence[dict[str, np.ndarray]]) -> bytes:
    """A grid with a row for each example; images (H, W, 3) are shown as they are, maps (H, W) as coloured depth."""
    names = list(examples[0])
    size = (3.2 * len(names), 1.75 * len(examples))
    figure, axes = plt.subplots(len(examples), len(names), figsize=size, squeeze=False, layout="constrained")
    for row, example in zip(axes, examples, strict=True):
        for axis, name in zip(row, names, strict=True):
            value = example[name]
            axis.imshow(value if value.ndim == 3 else colour_depth(value))
            axis.set_axis_off()
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name)
    return figure_png(figure)
