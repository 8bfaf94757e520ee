"""The scale of the labels of a shot, made steady: depth of single pictures flickers in scale from frame to frame.

The step of scale between two neighbouring frames is the median over the sphere of ln d' − ln d, where both have a
distance; s_k is the sum of the steps up to frame k. Frame k is multiplied by exp(mean of s_i − s_k) over the frames i
within `window` of it. What changes slowly stays, as when a camera walks from a closet into a hall.

What it does, on 8 simulated films of 24 frames at 2 a second, with the embedded model and a window of 4:

                  AbsRel            delta1            temporal_error    scale_flicker
    indoor        0.328 → 0.306     0.552 → 0.511     0.123 → 0.102     0.078 → 0.030
    outdoor       0.393 → 0.394     0.464 → 0.453     0.104 → 0.099     0.033 → 0.034

Frames agree better, and large errors of scale shrink; frames whose scale was right by chance lose it to others.
"""

from collections.abc import Sequence

import numpy as np

_MOST_ROWS = 128  # that are looked at


def scale_step(before_m: np.ndarray, after_m: np.ndarray) -> float:
    """The step of scale between the distances (H, W) of two frames; 0 where nothing is known in both."""
    stride = max(1, len(before_m) // _MOST_ROWS)
    before_m, after_m = before_m[::stride, ::stride], after_m[::stride, ::stride]
    known = np.isfinite(before_m) & np.isfinite(after_m) & (before_m > 0) & (after_m > 0)
    if not known.any():
        return 0.0
    rows = np.sin(np.pi * (np.arange(len(known)) + 0.5) / len(known))
    weights = np.broadcast_to(rows[:, None], known.shape)[known]
    steps = np.log(after_m[known].astype(np.float64)) - np.log(before_m[known].astype(np.float64))
    order = np.argsort(steps, kind="stable")
    summed = np.cumsum(weights[order])
    return float(steps[order][np.searchsorted(summed, summed[-1] / 2)])


def steady_factors(steps: Sequence[float], window: int) -> np.ndarray:
    """What to multiply each of N frames by, (N,), from the N − 1 steps between them."""
    scale = np.concatenate([[0.0], np.cumsum(steps)])
    means = [scale[max(0, k - window) : k + window + 1].mean() for k in range(len(scale))]
    return np.exp(means - scale)
