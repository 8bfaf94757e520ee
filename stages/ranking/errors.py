"""Errors of labels where the truth is known."""

import numpy as np


def label_errors(values_m: np.ndarray, truth_m: np.ndarray) -> tuple[float, float]:
    """AbsRel and delta1 by solid angle of distances (H, W), where the truth is within the range."""
    from ...models.metrics.depth import depth_metrics

    figures = depth_metrics(values_m, truth_m, np.isfinite(truth_m))["spherical"]
    return figures["abs_rel"], figures["delta1"]
