"""Pictures for people: depth as colour, and models side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import pyplot as plt

from .png import figure_png

_NEAREST_M, _FARTHEST_M = 0.3, 100.0
_SKY_RGB = (38, 38, 48)


def colour_depth(depth_m: np.ndarray) -> np.ndarray:
    """Depth (H, W) in metres to (H, W, 3) uint8: near is warm, far is cool on a logarithmic scale, beyond is dark."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    position = np.log(np.where(known, depth_m, 1.0) / _NEAREST_M) / np.log(_FARTHEST_M / _NEAREST_M)
    level = (255 * (1 - np.clip(position, 0, 1))).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colours, np.array(_SKY_RGB, np.uint8))


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
