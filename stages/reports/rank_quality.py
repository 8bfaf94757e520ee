"""What rankers of labels are worth, measured where the truth is known: a barrier that leaves figures and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from ...engine.steps.asset_settings import AssetUri, without_assets
from ...engine.steps.barrier import BarrierContext, BarrierError
from ...models.data.depth_png import decode_depth_png, encode_depth_png
from ...models.datasets.base import Labelled
from ...models.labelers.load import (
    Labeler,
    check_labeler,
    function_hashes,
    make_labeler,
    split_reference,
    weights_of,
)
from ...models.labelers.outputs import check_metric
from ...models.ranking.consistency import agreements, confidence
from ...models.ranking.corruption import CORRUPTIONS, LEVELS, corrupted
from ...models.ranking.quality import Judged, format_table, mean_ranks, rank_quality, top_ratios
from ...models.ranking.views import Views
from ..ranking.errors import label_errors
from ..ranking.ranker import Ranker, Scorer
from .labelled import decode_labelled, held_out
from .report import Report

_LABELER, _COMBINED = "labeler", "combined"
_DAMAGED = 40  # panoramas whose truth is damaged to see what rankers can see


@dataclass
class RankQuality(Report):
    """A labeler's labels of a labelled column, ranked: rank-quality.json, table.txt, ranking.png in `reports/<report>`.

    `corruptions`: of true depth that is damaged on purpose, how often a score falls as the damage grows, 0.5 by chance.
    Rankers are those of the step `score`; consistency is that of the labeler. Of several, `combined` is measured, too:
    the mean of their ranks within a scene, as `select` takes it.

    The labels are what the step `label` makes of the split's images with the same `views`; the truth is only compared
    with. Errors are by solid angle, of the distances where the truth is within the range, as `evaluate` measures them.
    """

    name: ClassVar[str] = "rank-quality"
    version: ClassVar[int] = 2

    labeler: AssetUri
    data: str
    rankers: dict[str, Ranker]
    views: Views | None = None
    split: str = "test"
    report: str = "rank-quality"
    seed: int = 0  # of the bootstrap
    batch_size: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.rankers:
            raise ValueError("rank-quality: needs a ranker at least")
        if taken := {_LABELER, _COMBINED, "oracle", "random"} & set(self.rankers):
            raise ValueError(f"rank-quality: a ranker cannot be named {min(taken)!r}")
        if self.batch_size < 1:
            raise ValueError("rank-quality: batch_size must be at least 1")
        for name, one in self.rankers.items():
            one.check_settings(f"rank-quality: {name}")
            if one.ranker == "consistency" and one.model:
                raise ValueError(f"rank-quality: {name}: consistency is that of the labeler, and takes no model")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.data,)

    def assets(self) -> dict[str, str]:
        labeler = weights_of(self.labeler)
        judges = {f"{name}.{asset}": uri for name, one in self.rankers.items() for asset, uri in one.assets()}
        return ({_LABELER: labeler} if labeler else {}) | judges

    def check(self) -> None:
        check_metric(self.labeler, check_labeler(self.labeler))
        function_hashes([self.labeler])
        for one in self.rankers.values():
            one.check()

    def settings(self) -> dict[str, Any]:
        rankers = {name: {**without_assets(one), **one.schemes()} for name, one in self.rankers.items()}
        return {**super().settings(), "labeler": split_reference(self.labeler)[0], "rankers": rankers}

    def external(self) -> dict[str, Any]:
        hashes = {name: functions for name, one in self.rankers.items() if (functions := one.functions())}
        return {**function_hashes([self.labeler]), **hashes}

    def run(self, context: BarrierContext) -> None:
        from ...models.drawing.ranking import top_ratios_png

        table, ordered = self._judged_rows(context)
        if not table:
            raise BarrierError(f"{self.data} has no panorama of the split {self.split!r} with a truth within the range")
        scenes = {scene: self._judged(sorted(rows)) for scene, rows in sorted(table.items())}
        figures = {**rank_quality(scenes, self.seed), "corruptions": ordered}
        pictures = {"ranking.png": top_ratios_png({name: _lines(of) for name, of in scenes.items()})}
        samples = sum(len(rows) for rows in table.values())
        self.publish(context, {"rank-quality.json": figures}, format_table(figures), pictures, samples)

    def _judged(self, rows: list[tuple[Any, ...]]) -> Judged:
        _, abs_rel, delta1, *columns = (np.array(values) for values in zip(*rows, strict=True))
        scores = dict(zip(self.rankers, columns, strict=True))
        return Judged(abs_rel, delta1, {**scores, _COMBINED: mean_ranks(columns)} if len(scores) > 1 else scores)

    def _judged_rows(
        self, context: BarrierContext
    ) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, dict[str, float]]]:
        """By scene, for every panorama: key, AbsRel, delta1 and the score of every ranker; and `corruptions`."""
        labeler, scorers = self._load(context)
        rows, found, falls = held_out(context, self.data, self.split), {}, {}
        while batch := [decode_labelled(row) for row in islice(rows, self.batch_size)]:
            items = [item for item in batch if np.isfinite(item.depth_m).any()]
            judged = _Batch(self, items, labeler, scorers)
            if wanted := max(0, _DAMAGED - sum(map(len, found.values()))):
                for place, of_each in judged.falls():
                    falls.setdefault(place, []).extend(of_each[:, :wanted].ravel())
            for item, row in zip(items, judged.rows(), strict=True):
                found.setdefault(item.scene, []).append(row)
        ordered: dict[str, dict[str, float]] = {}
        for (kind, ranker), values in falls.items():
            ordered.setdefault(kind, {})[ranker] = float(np.mean(values))
        return found, ordered

    def _load(self, context: BarrierContext) -> tuple[Labeler, dict[str, Scorer]]:
        try:
            labeler = make_labeler(
                self.labeler, weights=context.assets.get(_LABELER), device=self.device, batch_size=self.batch_size
            )
            check_metric(self.labeler, labeler.output)
            scorers = {
                name: one.load(_assets_of(name, context.assets), self.device, self.batch_size)
                for name, one in self.rankers.items()
                if one.ranker != "consistency"
            }
        except ValueError as error:
            raise BarrierError(str(error)) from error
        return labeler, scorers

    def all_views(self) -> set[Views]:
        """All that have to be predicted: those of the labels, and those that rankers compare."""
        asked = {one.views or Views() for one in self.rankers.values() if one.ranker == "consistency"}
        return asked | ({self.views} if self.views else set())


class _Batch:
    """Some panoramas with all that the labeler says of them, and the rankers to judge maps of them."""

    def __init__(self, step: RankQuality, items: list[Labelled], labeler: Labeler, scorers: dict[str, Scorer]):
        self._step, self._items, self._scorers = step, items, scorers
        self._rgbs = [item.rgb for item in items]
        self._seen = {v: agreements(labeler.estimate, self._rgbs, v) for v in sorted(step.all_views(), key=repr)}
        means = [one.mean() for one in self._seen[step.views]] if step.views else None
        self._estimates = means or labeler.estimate(self._rgbs)

    def rows(self) -> list[tuple[Any, ...]]:
        """key, AbsRel, delta1 and every ranker's score of the labels."""
        scores = self._scores([decode_depth_png(encode_depth_png(one.masked())).depth_m for one in self._estimates])
        errors = [
            label_errors(one.values, item.depth_m) for one, item in zip(self._estimates, self._items, strict=True)
        ]
        together = zip(self._items, errors, *scores.values(), strict=True)
        return [(item.key, *error, *of) for item, error, *of in together]

    def falls(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        """By kind of damage and ranker: whether the score of a truth falls, (steps to more damage, panoramas)."""
        for kind in CORRUPTIONS:
            levels = [
                self._scores(
                    [corrupted(np.nan_to_num(item.depth_m, posinf=np.inf), kind, amount) for item in self._items]
                )
                for amount in LEVELS
            ]
            for name in self._step.rankers:
                scores = np.array([level[name] for level in levels])
                yield (kind, name), np.diff(scores, axis=0) < 0

    def _scores(self, labels_m: list[np.ndarray]) -> dict[str, list[float]]:
        return {
            name: self._scorers[name].score(self._rgbs, labels_m)
            if name in self._scorers
            else [confidence(a.spread(m)) for a, m in zip(self._seen[one.views or Views()], labels_m, strict=True)]
            for name, one in self._step.rankers.items()
        }


def _assets_of(ranker: str, assets: Mapping[str, str]) -> dict[str, str]:
    """Those of one ranker, by its own names."""
    found = (name for name in assets if name.startswith(f"{ranker}."))
    return {name.removeprefix(f"{ranker}."): assets[name] for name in found}


def _lines(judged: Judged) -> dict[str, np.ndarray]:
    by_name = {**judged.scores, "oracle": -judged.abs_rel}
    return {name: top_ratios(scores, judged.abs_rel) for name, scores in by_name.items()}
