"""What is done to a shard or a column: one file a kind of step. A class is imported when it is used."""

from importlib import import_module
from typing import Any

KINDS = {
    "simulate": "dap_engine.stages.simulate:Simulate",
    "ingest": "dap_engine.stages.ingest:Ingest",
    "images": "dap_engine.stages.images:Images",
    "generate": "dap_engine.stages.generate:Generate",
    "film": "dap_engine.stages.film:Film",
    "plan": "dap_engine.stages.plan:Plan",
    "extract": "dap_engine.stages.extract:Extract",
    "tag": "dap_engine.stages.tag:Tag",
    "label": "dap_engine.stages.label:Label",
    "fuse-scale": "dap_engine.stages.fuse_scale:FuseScale",
    "score": "dap_engine.stages.score:Score",
    "score-control": "dap_engine.stages.score_control:ScoreControl",
    "select": "dap_engine.stages.select:Select",
    "pack": "dap_engine.stages.pack:Pack",
    "train": "dap_engine.stages.training.train:Train",
    "train-discriminator": "dap_engine.stages.training.train_discriminator:TrainDiscriminator",
    "train-critic": "dap_engine.stages.training.train_critic:TrainCritic",
    "train-horizon": "dap_engine.stages.training.train_horizon:TrainHorizon",
    "fit-measure": "dap_engine.stages.fit_measure:FitMeasure",
    "rank-quality": "dap_engine.stages.reports.rank_quality:RankQuality",
    "compare": "dap_engine.stages.reports.compare:Compare",
    "evaluate": "dap_engine.stages.reports.evaluate:Evaluate",
}
"""What a recipe calls each kind of step, and where its class is."""

_MODULES = {name: module for module, name in (reference.split(":") for reference in KINDS.values())}


def __getattr__(name: str) -> Any:
    """The class of a kind of step."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
