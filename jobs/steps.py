"""The kinds of step a recipe can name. A kind is imported when a recipe uses it, so that commands start fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from ..engine.steps.step import Step

_KINDS = {
    "simulate": "dap_engine.stages.simulate:Simulate",
    "ingest": "dap_engine.stages.ingest:Ingest",
    "film": "dap_engine.stages.film:Film",
    "plan": "dap_engine.stages.plan:Plan",
    "extract": "dap_engine.stages.extract:Extract",
    "tag": "dap_engine.stages.tag:Tag",
    "label": "dap_engine.stages.label:Label",
    "score": "dap_engine.stages.score:Score",
    "select": "dap_engine.stages.select:Select",
    "pack": "dap_engine.stages.pack:Pack",
    "train": "dap_engine.stages.train:Train",
    "train-discriminator": "dap_engine.stages.train_discriminator:TrainDiscriminator",
    "train-horizon": "dap_engine.stages.train_horizon:TrainHorizon",
    "fit-measure": "dap_engine.stages.fit_measure:FitMeasure",
    "evaluate": "dap_engine.stages.evaluate:Evaluate",
}


class _Steps(Mapping[str, type[Step]]):
    def __getitem__(self, kind: str) -> type[Step]:
        module, name = _KINDS[kind].split(":")
        return getattr(import_module(module), name)

    def __contains__(self, kind: object) -> bool:
        return kind in _KINDS

    def __iter__(self) -> Iterator[str]:
        return iter(_KINDS)

    def __len__(self) -> int:
        return len(_KINDS)


STEPS: Mapping[str, type[Step]] = _Steps()
