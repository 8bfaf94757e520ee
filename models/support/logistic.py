"""Logistic regression with an L2 penalty, for fits of a few numbers."""

from __future__ import annotations

import numpy as np

_MOST_STEPS = 100
_SETTLED = 1e-10  # of the loss, relative: a step that gains less is the last


def fit_logistic(features: np.ndarray, labels: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Weights w (K,) of features x (N, K) for labels y (N,) of 0 and 1, by Newton's method with step halving.

    They minimise  Σ ln(1 + exp(−(2y − 1) w·x)) + ½ Σ penalty_k w_k²;  the penalty (K,) is 0 for a bias.
    """
    signs, weights = 2.0 * labels - 1, np.zeros(features.shape[1])

    def loss(at: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (features @ at)).sum() + (penalty * at**2).sum() / 2)

    for _ in range(_MOST_STEPS):
        p = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ (p - labels) + penalty * weights
        hessian = (features.T * (p * (1 - p))) @ features + np.diag(penalty + 1e-9)
        step, before = np.linalg.solve(hessian, gradient), loss(weights)
        while loss(weights - step) > before and np.abs(step).max() > 1e-12:
            step /= 2
        weights = weights - step
        if before - loss(weights) <= _SETTLED * before:
            break
    return weights
