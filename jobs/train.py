"""Training a depth model on a packed column: a barrier of the recipe, and what `dap train` calls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from engine.barrier import BarrierContext
from engine.columns import Column, FolderColumn
from engine.stage import Barrier
from jobs.fit import CHECKPOINTS, Data, Hardware, Resume, fit
from models.dap import DapConfig, DapModel
from models.pretrained import StrictPreTrainedModel
from models.training import DapTraining, TrainSettings


@dataclass(frozen=True)
class Network:
    """The network to train: weights to start from, or a backbone, or else a size from scratch.

    `size` is `tiny` or `config`, which takes the fields of DapConfig from `config`.
    """

    size: Literal["tiny", "config"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    backbone: str | None = None  # folder or hub id of a DINOv3 backbone
    seed: int = 0

    def build(self, init: str | None, backbone: str | None) -> DapModel:
        """The model with its first weights; `init` and `backbone` are local folders or hub ids."""
        if init:
            return DapModel.from_folder(init)
        if backbone:
            return DapModel.from_backbone(backbone, seed=self.seed, **self.config)
        config = DapConfig.tiny(**self.config) if self.size == "tiny" else DapConfig(**self.config)
        return DapModel.new(config, seed=self.seed)


@dataclass
class Train(Barrier):
    """A packed column to `models/<model>`: a Hugging Face folder with lineage.json."""

    name: ClassVar[str] = "train"

    model: str
    data: str
    training: TrainSettings
    init: str | None = None
    network: Network = field(default_factory=Network)
    batches: Data = field(default_factory=Data)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoint_every: int = 50

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.data,)

    @property
    def writes(self) -> Column:
        return FolderColumn("models")

    @property
    def produces(self) -> str:
        return f"models/{self.model}"

    def assets(self) -> dict[str, str]:
        given = {"init": self.init, "backbone": self.network.backbone}
        return {name: uri for name, uri in given.items() if uri}

    def settings(self) -> dict[str, Any]:
        """Where it runs and how often it is saved change nothing in the weights' meaning."""
        left_out = ("hardware", "checkpoint_every")
        return {name: value for name, value in super().settings().items() if name not in left_out}

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.model]

    def run(self, context: BarrierContext) -> None:
        network = self.network.build(context.assets.get("init"), context.assets.get("backbone"))
        data = self.batches.module(context.run.storage, self.data)
        resume = resume_point(context, self.model, self.checkpoint_every)
        figures = fit(
            DapTraining(network, self.training), data, self.training.steps, self.hardware, resume, context.say
        )
        context.say(", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or "no validation split")
        commit_model(context, self.model, network, sum(shard.samples for shard in data.train), figures)
        resume.forget()


def resume_point(context: BarrierContext, model: str, every_steps: int) -> Resume:
    """Where a training of the run keeps its state: a changed recipe does not find the state of another."""
    path = f"{CHECKPOINTS}/{model}-{context.basis.fingerprint[:16]}.ckpt"
    return Resume(context.run.storage, path, every_steps)


def commit_model(
    context: BarrierContext, name: str, model: StrictPreTrainedModel, samples: int, figures: dict[str, float]
) -> None:
    """Commits a Hugging Face folder with lineage.json: what the weights were made from."""
    lineage = {"fingerprint": context.basis.fingerprint, **dataclasses.asdict(context.basis), "validation": figures}
    with context.scratch() as scratch:
        model.eval().save_pretrained(scratch / "model")
        text = json.dumps(lineage, indent=1, sort_keys=True) + "\n"
        (scratch / "model" / "lineage.json").write_text(text)
        context.commit(name, scratch / "model", samples, samples)
