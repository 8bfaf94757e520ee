"""Training the judge of labels: ground truth against a labeler's predictions of the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from engine.barrier import BarrierContext
from engine.columns import Column, FolderColumn
from engine.stage import Barrier
from jobs.fit import Data, Hardware, fit
from jobs.train import commit_model, resume_point
from models.dap import DapModel
from models.discriminator import Discriminator, DiscriminatorConfig
from models.training import DiscriminatorTraining


@dataclass
class TrainDiscriminator(Barrier):
    """A packed, labelled column and a labeler to `models/<model>`."""

    name: ClassVar[str] = "train-discriminator"

    model: str
    data: str
    labeler: str
    steps: int
    lr: float = 2e-4
    size: Literal["tiny", "config"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
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
        return {"labeler": self.labeler}

    def settings(self) -> dict[str, Any]:
        """Where it runs and how often it is saved change nothing in the weights' meaning."""
        left_out = ("hardware", "checkpoint_every")
        return {name: value for name, value in super().settings().items() if name not in left_out}

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.model]

    def run(self, context: BarrierContext) -> None:
        config = DiscriminatorConfig.tiny(**self.config) if self.size == "tiny" else DiscriminatorConfig(**self.config)
        discriminator = Discriminator.new(config, seed=self.seed)
        module = DiscriminatorTraining(discriminator, DapModel.from_folder(context.assets["labeler"]), lr=self.lr)
        data = self.batches.module(context.run.storage, self.data)
        resume = resume_point(context, self.model, self.checkpoint_every)
        fit(module, data, self.steps, self.hardware, resume, context.say)
        commit_model(context, self.model, discriminator, sum(shard.samples for shard in data.train), {})
        resume.forget()
