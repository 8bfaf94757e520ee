"""The kinds of step a recipe can name. A kind is imported when a recipe uses it, so that commands start fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from engine.stage import Step

_KINDS = {
    "simulate": "stages.simulate:Simulate",
    "ingest": "stages.ingest:Ingest",
    "film": "stages.film:Film",
    "plan": "stages.plan:Plan",
    "extract": "stages.extract:Extract",
    "tag": "stages.tag:Tag",
    "label": "stages.label:Label",
    "score": "stages.score:Score",
    "select": "stages.select:Select",
    "pack": "stages.pack:Pack",
    "train": "jobs.train:Train",
    "train-discriminator": "jobs.train_discriminator:TrainDiscriminator",
    "train-horizon": "jobs.train_horizon:TrainHorizon",
    "evaluate": "jobs.evaluate:Evaluate",
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
