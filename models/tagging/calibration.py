"""How far a tagger's probabilities can be trusted, and what makes them better, from panoramas whose scene is known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BINS = 10
_WANTED_ACCURACY = 0.95
_TEMPERATURES = np.geomspace(0.05, 20, 400)  # 1.5 % apart


class Calibration(NamedTuple):
    """What was measured as the tagger is, and what to set: the temperature, and the threshold that goes with it.

    accuracy: the share that is right at p = 0.5. calibration_error: the expected calibration error (Guo et al. 2017,
    arXiv 1706.04599) of the probability of the scene that was said, in ten bins.
    """

    accuracy: float
    calibration_error: float
    threshold: float
    temperature: float


def calibrate(log_odds: Sequence[float], is_indoor: Sequence[bool]) -> Calibration:
    """From ln(p / (1 − p)) of being indoors as the model gives it; raises ValueError unless both scenes are there."""
    odds, indoor = np.asarray(log_odds, float), np.asarray(is_indoor, bool)
    if indoor.all() or not indoor.any():
        raise ValueError("both scenes are needed, indoor and outdoor")
    temperature = fit_temperature(odds, indoor)
    sure, is_right = _said(odds, indoor)
    threshold = fit_threshold(_said(odds / temperature, indoor)[0], is_right)
    return Calibration(float(is_right.mean()), calibration_error(sure, is_right), threshold, temperature)


def fit_temperature(log_odds: np.ndarray, is_indoor: np.ndarray) -> float:
    """What the log-odds (N,) are to be divided by: the cross entropy is least there (Guo et al. 2017), two digits."""
    signed = np.where(is_indoor, log_odds, -log_odds)
    losses = [np.logaddexp(0, -signed / temperature).mean() for temperature in _TEMPERATURES]
    return float(f"{_TEMPERATURES[int(np.argmin(losses))]:.2g}")


def fit_threshold(sure: np.ndarray, is_right: np.ndarray) -> float:
    """The lowest threshold, in hundredths from 0.5, from which on 95 % of what is not unsure are right.

    `sure` (N,): the probability of the scene that was said. Where no threshold does it, that with the largest share.
    """
    thresholds = np.arange(50, 100) / 100
    shares = np.array([is_right[sure >= at].mean() if (sure >= at).any() else 0.0 for at in thresholds])
    enough = shares >= _WANTED_ACCURACY
    return float(thresholds[int(enough.argmax()) if enough.any() else int(shares.argmax())])


def calibration_error(sure: np.ndarray, is_right: np.ndarray) -> float:
    """The mean over ten bins of `sure` (N,) of |share that is right − mean of `sure`|, weighted by their number."""
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [abs(is_right[bins == one].sum() - sure[bins == one].sum()) for one in np.unique(bins)]
    return float(sum(gaps) / len(sure))


def _said(log_odds: np.ndarray, is_indoor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the scene that is said at p = 0.5, and whether that is right."""
    return 1 / (1 + np.exp(-np.abs(log_odds))), (log_odds >= 0) == is_indoor
