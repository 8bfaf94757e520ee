"""Fits the numbers of an embedded measure, the tagger's or the pole measure's: a barrier of the recipe `embedded`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import simplejpeg

from ..engine.records.column import Column, FolderColumn
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.barrier import Barrier, BarrierContext, BarrierError
from ..models.tagging.fit import KnownScene, fit_tagger
from .training.photographs import read_photographs


@dataclass
class FitMeasure(Barrier):
    """Labelled panoramas to `reports/<measure>/fit.json`: numbers as they stand in the measure's module.

    tagger: models/tagging/embedded.py; poles: models/horizon/projection_poles.py. What is not of the split `train` is
    held out, and measures the fit. `photographs` is a folder of level panoramas with the sub-folders `indoor` and
    `outdoor`; every other one of a sub-folder is held out. variants: changed copies of every panorama.
    """

    name: ClassVar[str] = "fit-measure"

    measure: Literal["tagger", "poles"]
    data: list[str]
    photographs: AssetUri | None = None
    variants: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise ValueError("fit-measure: variants must be at least 1")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.data)

    @property
    def writes(self) -> Column:
        return FolderColumn("reports")

    @property
    def produces(self) -> str:
        return f"reports/{self.measure}"

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.measure]

    def run(self, context: BarrierContext) -> None:
        scenes = [*self._simulated(context), *self._photographed(context)]
        fitted = self._fit(scenes)
        context.log(f"accuracy {fitted['accuracy']:.3f} on {fitted['held_out']} panoramas held out")
        with context.scratch() as scratch:
            (scratch / "fit").mkdir()
            (scratch / "fit" / "fit.json").write_text(json.dumps(fitted, indent=1) + "\n")
            context.commit(self.measure, scratch / "fit", len(scenes), len(scenes))

    def _fit(self, scenes: list[KnownScene]) -> dict[str, Any]:
        from ..models.horizon.projection_poles_fit import fit_poles

        try:
            if self.measure == "tagger":
                return fit_tagger(scenes, self.variants, self.seed)
            panoramas = [scene.rgb for scene in scenes if not scene.held_out]
            held_out = [scene.rgb for scene in scenes if scene.held_out]
            return fit_poles(panoramas, held_out, self.variants, self.seed)
        except ValueError as error:
            raise BarrierError(str(error)) from error

    def _simulated(self, context: BarrierContext) -> Iterator[KnownScene]:
        for column in self.data:
            for receipt in context.inputs[column].values():
                for row in context.run.rows(receipt):
                    info = row.fields["json"]
                    rgb = simplejpeg.decode_jpeg(row.fields["jpg"])
                    yield KnownScene(rgb, info.get("scene") == "indoor", info.get("split") != "train")

    def _photographed(self, context: BarrierContext) -> Iterator[KnownScene]:
        for scene in ("indoor", "outdoor") if self.photographs else ():
            folder = Path(context.assets["photographs"]) / scene
            for number, (_, rgb) in enumerate(read_photographs(folder)):
                yield KnownScene(rgb, scene == "indoor", number % 2 == 1)
