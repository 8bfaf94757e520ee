"""What turning a panorama about the vertical changes that it should not: the seam at ±180°, and the error under yaw.

A panorama has no left edge: where its columns begin is arbitrary. So a prediction should neither jump there,
nor depend on where there is.
"""

from collections.abc import Callable

import numpy as np
import torch

from ..geometry.equirectangular import solid_angle


def seam_ratio(depth_m: np.ndarray) -> float:
    """Median jump of distances (H, W) across the ±180° column over the median jump between neighbouring columns.

    About 1 without a seam; nan where neighbouring columns are mostly equal. A jump of inverse distances is another:
    what a relative model gives is to be aligned to metres first, if its seam is to stand beside others.
    """
    across = np.median(np.abs(depth_m[:, 0] - depth_m[:, -1]))
    between = np.median(np.abs(np.diff(depth_m, axis=1)))
    return float(across / between) if between > 0 else float("nan")


def yaw_error(predict: Callable[[np.ndarray], np.ndarray], rgb: np.ndarray, *, turns: int = 5) -> float:
    """How much a prediction changes when its input is turned: mean of |d′ − d| / d over the sphere.

    `predict` takes a panorama (H, W, 3) to its distances (H, W) in metres; d′ is predicted from the panorama turned by
    each multiple of a full turn over `turns`, as whole columns, and turned back. Of a predictor that itself takes the
    mean over turns, `turns` should share no factor with theirs, or the error is 0 by construction.
    """
    if turns < 2:
        raise ValueError(f"the error under yaw wants 2 turns or more, not {turns}")
    height, width = rgb.shape[:2]
    weight = solid_angle(height, width, dtype=torch.float64).numpy()
    depth_m = predict(rgb)
    errors = [np.abs(_turned(predict, rgb, width * k // turns) - depth_m) / depth_m for k in range(1, turns)]
    return float(np.average(np.mean(errors, axis=0), weights=weight))


def _turned(predict: Callable[[np.ndarray], np.ndarray], rgb: np.ndarray, columns: int) -> np.ndarray:
    return np.roll(predict(np.roll(rgb, columns, axis=1)), -columns, axis=1)
