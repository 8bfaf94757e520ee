"""A picture for people of an experiment: how far each arm is from the control, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import pyplot as plt

from .png import figure_png


def differences_png(figures: Mapping[str, Any]) -> bytes:
    """A panel a data set: of every arm the difference in AbsRel from the control and its 95 % interval, by scene."""
    data = figures["data"]
    arms = [arm for arm in next(iter(data.values()))["all"]["abs_rel"] if arm != figures["control"]]
    height = 1.6 + 0.35 * len(arms)
    figure, axes = plt.subplots(1, len(data), figsize=(5 * len(data), height), squeeze=False, layout="constrained")
    for axis, (name, scenes) in zip(axes[0], data.items(), strict=True):
        for offset, (scene, of) in enumerate(scenes.items()):
            rows = [of["abs_rel"][arm] for arm in arms]
            means = [row["difference"] for row in rows]
            spans = [
                [mean - row["interval"][0] for mean, row in zip(means, rows, strict=True)],
                [row["interval"][1] - mean for mean, row in zip(means, rows, strict=True)],
            ]
            places = [number + 0.2 * offset for number in range(len(arms))]
            axis.errorbar(means, places, xerr=spans, fmt="o", label=f"{scene}, {of['n']}", capsize=3, markersize=4)
        axis.axvline(0, color="gray", linestyle=":")
        axis.set(title=name, xlabel=f"AbsRel less that of {figures['control']}: left is better")
        axis.set_yticks(range(len(arms)), arms)
        axis.invert_yaxis()
        axis.legend(fontsize=8)
    return figure_png(figure)
