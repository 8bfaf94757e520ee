"""How well scores rank labels by their errors: rank correlation, and the error of what would be selected by them.

All labels of a call are of one scene type, as selections are. Intervals are 95 % of a bootstrap over panoramas
(Efron 1979), from a seed, with the same draws for every ranker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1000
_TOP_SHARES = {"top_tenth": 0.10, "top_quarter": 0.25, "top_half": 0.50}
_INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Judged:
    """Labels of one scene by rising key: their errors against the truth (N,), and the scores (N,) of every ranker.

    All are finite. Scores are the higher, the better.
    """

    abs_rel: np.ndarray
    delta1: np.ndarray
    scores: Mapping[str, np.ndarray]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation (Spearman 1904) of (N,) and (N,): Pearson's of the ranks, equal values share their mean rank.

    0 where either is the same everywhere: it ranks nothing.
    """
    return _rank_correlation(_places(one), _places(other))


def mean_ranks(scores: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Several rankings of the same labels, (N,) each, as one: the mean of their ranks, 0 to 1; ties share a rank."""
    ranks = np.average([_mean_ranks(_places(one)) for one in scores], axis=0, weights=weights)
    return (ranks - 1) / max(1, len(ranks) - 1)


def _places(values: np.ndarray) -> np.ndarray:
    """Of every value, how many distinct ones are less."""
    return np.unique(values, return_inverse=True)[1]


def _rank_correlation(*places: np.ndarray) -> float:
    one, other = (ranks - ranks.mean() for ranks in map(_mean_ranks, places))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale > 0 else 0.0


def _mean_ranks(places: np.ndarray) -> np.ndarray:
    counts = np.bincount(places)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def top_ratios(scores: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Mean error of the k best-scored labels over that of all, (N,) for k = 1 … N; 1 where no label has an error.

    Equal scores are taken in the order given.
    """
    if not errors.any():
        return np.ones(len(errors))
    best_first = errors[np.argsort(-scores, kind="stable")]
    return best_first.cumsum() / np.arange(1, len(errors) + 1) / errors.mean()


def rank_quality(scenes: Mapping[str, Judged], seed: int = 0) -> dict[str, Any]:
    """Figures of every scene, and `chosen`: the ranker of the best mean Spearman over them, of equals the first."""
    figures = {name: _scene_figures(judged, seed) for name, judged in sorted(scenes.items())}
    rankers = list(next(iter(scenes.values())).scores)
    means = {name: np.mean([of["rankers"][name]["spearman"] for of in figures.values()]) for name in rankers}
    return {"scenes": figures, "chosen": max(rankers, key=lambda name: means[name])}


def _scene_figures(judged: Judged, seed: int) -> dict[str, Any]:
    """Of every ranker; of the oracle, which ranks by the error itself; and of random orders of these very labels."""
    errors, count = judged.abs_rel, len(judged.abs_rel)

    def top(scores: np.ndarray) -> dict[str, Any]:
        return _top_figures(top_ratios(scores, errors), (top_ratios(scores[d], errors[d]) for d in _draws(count, seed)))

    shuffles = np.random.Generator(np.random.PCG64(seed))
    random = (top_ratios(shuffles.random(count), errors) for _ in range(RESAMPLES))
    return {
        "n": count,
        "abs_rel": float(errors.mean()),
        "rankers": {name: _correlations(scores, judged, seed) | top(scores) for name, scores in judged.scores.items()},
        "oracle": top(-errors),
        "random": _top_figures(np.ones(count), random),  # 1 is what to expect
    }


def _draws(count: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return (rng.integers(0, count, count) for _ in range(RESAMPLES))


def _correlations(scores: np.ndarray, judged: Judged, seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, errors in (("spearman", judged.abs_rel), ("spearman_delta1", 1 - judged.delta1)):
        places = _places(scores), _places(-errors)
        resampled = [_rank_correlation(places[0][draw], places[1][draw]) for draw in _draws(len(errors), seed)]
        figures |= {name: _rank_correlation(*places), f"{name}_interval": _interval(resampled)}
    return figures


def _top_figures(ratios: np.ndarray, resampled: Iterator[np.ndarray]) -> dict[str, Any]:
    """Of ratios (N,) as `top_ratios` gives them, and of resampled ones."""
    at = {name: max(1, round(share * len(ratios))) - 1 for name, share in _TOP_SHARES.items()}
    table = np.stack([each[list(at.values())] for each in resampled])
    figures: dict[str, Any] = {}
    for column, (name, index) in enumerate(at.items()):
        figures[_ratio(name)] = float(ratios[index])
        figures[f"{_ratio(name)}_interval"] = _interval(table[:, column])
    return figures


def _interval(values: Any) -> list[float]:
    return [float(bound) for bound in np.percentile(values, _INTERVAL)]


def format_table(figures: Mapping[str, Any]) -> str:
    """By scene and ranker: Spearman with −AbsRel, its interval, that with delta1, and the ratios of the best shares."""
    shares = "".join(f"{f'best {share:.0%}':>10}" for share in _TOP_SHARES.values())
    lines = [f"{'':32}{'Spearman':>9}{'95 %':>17}{'delta1':>9}{shares}"]
    for scene, of in figures["scenes"].items():
        lines.append(f"{scene}: {of['n']} labels, AbsRel {of['abs_rel']:.4f}")
        for name, row in {**of["rankers"], "oracle": of["oracle"], "random": of["random"]}.items():
            lines.append(
                f"  {name:<30}{_correlation_text(row)}" + "".join(f"{row[_ratio(n)]:>10.3f}" for n in _TOP_SHARES)
            )
    lines.append(f"chosen: {figures['chosen']}")
    if ordered := figures.get("corruptions"):
        rankers = list(next(iter(ordered.values())))
        lines.append(f"{'score falls as truth is damaged':32}" + "".join(f"{name:>14}" for name in rankers))
        lines += [f"  {kind:<30}" + "".join(f"{row[name]:>14.2f}" for name in rankers) for kind, row in ordered.items()]
    return "\n".join(lines)


def _ratio(name: str) -> str:
    return f"{name}_abs_rel_ratio"


def _correlation_text(row: Mapping[str, Any]) -> str:
    if "spearman" not in row:
        return " " * 35
    low, high = row["spearman_interval"]
    return f"{row['spearman']:>+9.3f}{f'{low:+.3f} … {high:+.3f}':>17}{row['spearman_delta1']:>+9.3f}"
