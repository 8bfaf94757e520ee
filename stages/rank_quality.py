"""What rankers of labels are worth, measured where the truth is known: a barrier that leaves figures and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from ..engine.records.column import Column, FolderColumn
from ..engine.steps.asset_settings import AssetUri, without_assets
from ..engine.steps.barrier import Barrier, BarrierContext, BarrierError
from ..models.data.depth_png import decode_depth_png, encode_depth_png
from ..models.datasets.base import Labelled
from ..models.drawing.ranking import top_ratios_png
from ..models.labelers.load import (
    Labeler,
    check_labeler,
    function_hashes,
    make_labeler,
    split_reference,
    weights_of,
)
from ..models.labelers.outputs import check_metric
from ..models.ranking.consistency import Agreement, Views, agreements, confidence
from ..models.ranking.quality import Judged, format_table, mean_ranks, rank_quality, top_ratios
from .evaluate import decode_labelled, held_out
from .ranking.errors import label_errors
from .ranking.ranker import Ranker, Scorer

_LABELER, _COMBINED = "labeler", "combined"


@dataclass
class RankQuality(Barrier):
    """A labeler's labels of a labelled column, ranked: rank-quality.json, table.txt, ranking.png in `reports/<report>`.

    Rankers are those of the step `score`; consistency is that of the labeler. Of several, `combined` is measured, too:
    the mean of their ranks within a scene, as `select` takes it.

    The labels are what the step `label` makes of the split's images with the same `views`; the truth is only compared
    with. Errors are by solid angle, of the distances where the truth is within the range, as `evaluate` measures them.
    """

    name: ClassVar[str] = "rank-quality"

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

    @property
    def writes(self) -> Column:
        return FolderColumn("reports")

    @property
    def produces(self) -> str:
        return f"reports/{self.report}"

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

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.report]

    def run(self, context: BarrierContext) -> None:
        table = self._judged_rows(context)
        if not table:
            raise BarrierError(f"{self.data} has no panorama of the split {self.split!r} with a truth within the range")
        scenes = {scene: self._judged(sorted(rows)) for scene, rows in sorted(table.items())}
        figures = rank_quality(scenes, self.seed)
        for line in format_table(figures).splitlines():
            context.log(line)
        samples = sum(len(rows) for rows in table.values())
        with context.scratch() as scratch:
            folder = scratch / "report"
            folder.mkdir()
            (folder / "rank-quality.json").write_text(json.dumps(figures, indent=1) + "\n")
            (folder / "table.txt").write_text(format_table(figures) + "\n")
            (folder / "ranking.png").write_bytes(top_ratios_png({name: _lines(of) for name, of in scenes.items()}))
            context.commit(self.report, folder, samples, samples)

    def _judged(self, rows: list[tuple[Any, ...]]) -> Judged:
        _, abs_rel, delta1, *columns = (np.array(values) for values in zip(*rows, strict=True))
        scores = dict(zip(self.rankers, columns, strict=True))
        return Judged(abs_rel, delta1, {**scores, _COMBINED: mean_ranks(columns)} if len(scores) > 1 else scores)

    def _judged_rows(self, context: BarrierContext) -> dict[str, list[tuple[Any, ...]]]:
        """By scene, for every panorama: key, AbsRel, delta1 and the score of every ranker."""
        labeler, scorers = self._load(context)
        rows, found = held_out(context, self.data, self.split), {}
        while batch := [decode_labelled(row) for row in islice(rows, self.batch_size)]:
            items = [item for item in batch if np.isfinite(item.depth_m).any()]
            for item, row in zip(items, self._rows(items, labeler, scorers), strict=True):
                found.setdefault(item.scene, []).append(row)
        return found

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

    def _rows(self, items: list[Labelled], labeler: Labeler, scorers: dict[str, Scorer]) -> list[tuple[Any, ...]]:
        rgbs = [item.rgb for item in items]
        seen: dict[Views, list[Agreement]] = {
            views: agreements(labeler.estimate, rgbs, views) for views in sorted(self._views(), key=repr)
        }
        estimates = [one.mean() for one in seen[self.views]] if self.views else labeler.estimate(rgbs)
        labels_m = [decode_depth_png(encode_depth_png(one.masked())).depth_m for one in estimates]
        scores = [
            scorers[name].score(rgbs, labels_m)
            if name in scorers
            else [confidence(a.spread(m)) for a, m in zip(seen[one.views or Views()], labels_m, strict=True)]
            for name, one in self.rankers.items()
        ]
        errors = [label_errors(one.values, item.depth_m) for one, item in zip(estimates, items, strict=True)]
        return [(item.key, *error, *of) for item, error, *of in zip(items, errors, *scores, strict=True)]

    def _views(self) -> set[Views]:
        """All that have to be predicted: those of the labels, and those that rankers compare."""
        asked = {one.views or Views() for one in self.rankers.values() if one.ranker == "consistency"}
        return asked | ({self.views} if self.views else set())


def _assets_of(ranker: str, assets: Mapping[str, str]) -> dict[str, str]:
    """Those of one ranker, by its own names."""
    found = (name for name in assets if name.startswith(f"{ranker}."))
    return {name.removeprefix(f"{ranker}."): assets[name] for name in found}


def _lines(judged: Judged) -> dict[str, np.ndarray]:
    by_name = {**judged.scores, "oracle": -judged.abs_rel}
    return {name: top_ratios(scores, judged.abs_rel) for name, scores in by_name.items()}
