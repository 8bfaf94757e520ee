"""The fit of the embedded tagger: its coefficients from panoramas that are known to be indoors or outdoors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..support.logistic import fit_logistic
from .embedded import cues

_PENALTY = 1.0  # on the coefficients of cues that are scaled to a standard deviation of one


@dataclass(frozen=True, eq=False)
class KnownScene:
    """A level panorama, uint8 RGB (H, W, 3), and whether it is indoors; those held out measure the fit."""

    rgb: np.ndarray
    indoor: bool
    held_out: bool


def fit_tagger(scenes: Sequence[KnownScene], variants: int, seed: int) -> dict[str, Any]:
    """`intercept` and `coefficients` as in `embedded`, and the `accuracy` at p = 0.5 on what was held out.

    Each scene counts as it is and in `variants` copies of other exposure, tint, noise and blur. Raises ValueError
    unless both the fitted and the held-out scenes hold indoor and outdoor ones.
    """
    for part in (True, False):
        if {scene.indoor for scene in scenes if scene.held_out == part} != {True, False}:
            raise ValueError("the tagger needs indoor and outdoor panoramas, both to be fitted to and held out")
    rng = np.random.Generator(np.random.PCG64(seed))
    fitted = [scene for scene in scenes if not scene.held_out]
    rgbs = [rgb for scene in fitted for rgb in (scene.rgb, *(_varied(scene.rgb, rng) for _ in range(variants)))]
    names, values = list(cues(rgbs[0])), np.array([list(cues(rgb).values()) for rgb in rgbs])
    labels = np.repeat([scene.indoor for scene in fitted], 1 + variants)
    penalty = np.append(_PENALTY * values.var(axis=0), 0)
    *coefficients, intercept = fit_logistic(_with_bias(values), labels, penalty).tolist()
    others = [scene for scene in scenes if scene.held_out]
    scores = _with_bias(np.array([list(cues(scene.rgb).values()) for scene in others])) @ [*coefficients, intercept]
    right = (scores > 0) == np.array([scene.indoor for scene in others])
    return {
        "intercept": round(intercept, 2),
        "coefficients": {name: round(value, 2) for name, value in zip(names, coefficients, strict=True)},
        "fitted": len(fitted),
        "held_out": len(others),
        "accuracy": round(float(right.mean()), 4),
    }


def _with_bias(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def _varied(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gains = 2 ** rng.normal(0, 0.4) * (1 + rng.normal(0, 0.06, 3))
    picture = rgb.astype(np.float32) * gains.astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.1, 1.0))
    picture += rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return picture.clip(0, 255).astype(np.uint8)
