"""Arms of an experiment against a control: differences of errors, paired by seed and panorama, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percentiles


def compare_arms(errors: Mapping[str, np.ndarray], control: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """By arm: mean error, its deviation over seeds and, but for the control, its difference with a 95 % interval.

    `errors`: by arm, (S, N) for S seeds and N panoramas, the same and in the same order in all arms. The interval is a
    bootstrap's over seeds and panoramas (Efron 1979), whose draws are the same for every arm.
    """
    base = errors[control]
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = [tuple(rng.integers(0, size, size) for size in base.shape) for _ in range(RESAMPLES)]
    found = {}
    for arm, values in errors.items():
        by_seed = values.mean(axis=1)
        spread = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0
        found[arm] = {"mean": float(values.mean()), "std": spread, "by_seed": by_seed.tolist()}
        if arm != control:
            difference = values - base
            resampled = [difference[np.ix_(seeds, panoramas)].mean() for seeds, panoramas in draws]
            low, high = np.percentile(resampled, _INTERVAL)
            found[arm] |= {"difference": float(difference.mean()), "interval": [float(low), float(high)]}
    return found


def format_comparison(figures: Mapping[str, Any]) -> str:
    """A block a data set and scene: of every arm AbsRel and delta1, and their differences from the control."""
    lines = []
    for data, scenes in figures["data"].items():
        for scene, of in scenes.items():
            lines.append(f"{data}, {scene}: {of['n']} panoramas")
            heads = (f"{name:>9}{'± std':>8}{'difference':>12}{'95 %':>20}" for name in ("AbsRel", "delta1"))
            lines.append(" " * 24 + "".join(heads))
            for arm in of["abs_rel"]:
                columns = "".join(_columns(of[name][arm]) for name in ("abs_rel", "delta1"))
                lines.append(f"  {arm:<22}{columns}".rstrip())
    return "\n".join(lines)


def _columns(row: Mapping[str, Any]) -> str:
    mean = f"{row['mean']:>9.4f}{row['std']:>8.4f}"
    if "difference" not in row:
        return f"{mean}{'control':>12}{'':>20}"
    low, high = row["interval"]
    return f"{mean}{row['difference']:>+12.4f}{f'{low:+.4f} … {high:+.4f}':>20}"
