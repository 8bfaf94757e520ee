"""A picture for people of what rankings are worth: the error of the best-scored labels, by how many are taken."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt

from .png import figure_png


def top_ratios_png(scenes: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """A panel for each scene, a line for each ranker: `top_ratios` (N,) over the share that is taken, random at 1."""
    figure, axes = plt.subplots(1, len(scenes), figsize=(4.4 * len(scenes), 3.6), squeeze=False, layout="constrained")
    for axis, (scene, lines) in zip(axes[0], scenes.items(), strict=True):
        for name, ratios in lines.items():
            axis.plot(np.arange(1, len(ratios) + 1) / len(ratios), ratios, label=name)
        axis.axhline(1, color="gray", linestyle=":", label="random")
        axis.set(title=scene, xlabel="share taken, best-scored first", ylabel="AbsRel over that of all")
        axis.legend(fontsize=8)
    return figure_png(figure)
