"""Compares the arms of an experiment: models of several seeds each, on the same panoramas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from ...engine.steps.asset_settings import AssetUri
from ...engine.steps.barrier import BarrierContext, BarrierError
from ...models.evaluation.comparison import compare_arms, format_comparison
from ...models.inference.embedded import check_model_folder
from ..ranking.errors import label_errors
from .labelled import decode_labelled, held_out
from .report import Report

_FIGURES = ("abs_rel", "delta1")


@dataclass
class Compare(Report):
    """Models to comparison.json, table.txt and differences.png in `reports/<report>`.

    A model's name ends with its arm and its seed, `<anything>-<arm>-<seed>`, as `each: {arm: …, seed: …}` makes them;
    every arm has the same seeds. Differences are from the arm `control`.
    """

    name: ClassVar[str] = "compare"

    models: dict[str, AssetUri]
    data: dict[str, str]
    control: str
    split: str = "test"
    report: str = "comparison"
    seed: int = 0  # of the bootstrap
    batch_size: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        arms = self._arms()
        if self.control not in arms:
            raise ValueError(f"compare: the control {self.control!r} is none of the arms {sorted(arms)}")
        if len({tuple(sorted(seeds)) for seeds in arms.values()}) > 1:
            raise ValueError("compare: the arms have different seeds")

    def _arms(self) -> dict[str, dict[str, str]]:
        """The name of the model by arm and seed; what all names begin with is left out."""
        common = _common_words([name.split("-")[:-1] for name in self.models])
        arms: dict[str, dict[str, str]] = {}
        for name in self.models:
            *words, seed = name.split("-")
            arms.setdefault("-".join(words[common:]), {})[seed] = name
        return arms

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.data.values()))

    def check(self) -> None:
        for model in self.models.values():
            check_model_folder(model)

    def run(self, context: BarrierContext) -> None:
        from ...models.drawing.comparison import differences_png

        measured = {data: self._measure(context, column) for data, column in self.data.items()}
        figures = {
            "control": self.control,
            "seeds": sorted(next(iter(self._arms().values()))),
            "data": {data: self._compared(*of) for data, of in measured.items()},
        }
        samples = sum(len(scenes) for scenes, _ in measured.values())
        pictures = {"differences.png": differences_png(figures)}
        self.publish(context, {"comparison.json": figures}, format_comparison(figures), pictures, samples)

    def _measure(self, context: BarrierContext, column: str) -> tuple[list[str], dict[str, np.ndarray]]:
        """The scene of every panorama (N,), and by model the figures (2, N): AbsRel and delta1 by solid angle."""
        from ...models.inference.predictor import DepthPredictor

        scenes = [item.scene for batch in self._batches(context, column) for item in batch]
        if not scenes:
            raise BarrierError(f"{column} has no panorama of the split {self.split!r} with a truth within the range")
        found = {}
        for name in self.models:
            predictor = DepthPredictor(context.assets[name], self.device, batch_size=self.batch_size)
            errors = [
                label_errors(one.depth_m, item.depth_m)
                for batch in self._batches(context, column)
                for item, one in zip(batch, predictor.predict([item.rgb for item in batch]), strict=True)
            ]
            found[name] = np.array(errors).T
        return scenes, found

    def _batches(self, context: BarrierContext, column: str) -> Iterator[list[Any]]:
        rows = held_out(context, column, self.split)
        while batch := [decode_labelled(row) for row in islice(rows, self.batch_size)]:
            yield [item for item in batch if np.isfinite(item.depth_m).any()]

    def _compared(self, scenes: list[str], found: dict[str, np.ndarray]) -> dict[str, Any]:
        parts = {"all": np.arange(len(scenes))}
        if len(set(scenes)) > 1:
            parts |= {scene: np.flatnonzero(np.array(scenes) == scene) for scene in sorted(set(scenes))}
        return {
            scene: {"n": len(members)}
            | {
                figure: compare_arms(
                    {
                        arm: np.stack([found[models[seed]][row][members] for seed in sorted(models)])
                        for arm, models in self._arms().items()
                    },
                    self.control,
                    self.seed,
                )
                for row, figure in enumerate(_FIGURES)
            }
            for scene, members in parts.items()
        }


def _common_words(names: list[list[str]]) -> int:
    """How many words all names begin with, of which each keeps one at least."""
    count = 0
    while all(len(words) > count + 1 for words in names) and len({words[count] for words in names}) == 1:
        count += 1
    return count
