"""Training the discriminator that scores labels: ground truth against a labeler's predictions of the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...engine.steps.asset_settings import AssetUri
from ...models.network.dap import DapModel
from ...models.network.discriminator import Discriminator, DiscriminatorConfig
from ...models.training.discriminator import DiscriminatorTraining
from .fit import DataConfig, Hardware
from .training import Training


@dataclass
class TrainDiscriminator(Training):
    """A discriminator, from a packed, labelled column and a labeler."""

    name: ClassVar[str] = "train-discriminator"

    model: str
    data: str
    labeler: AssetUri
    steps: int
    lr: float = 2e-4
    size: Literal["tiny", "config"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    batches: DataConfig = field(default_factory=DataConfig)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoint_every: int = 50

    @property
    def total_steps(self) -> int:
        return self.steps

    def build(self, assets: Mapping[str, str]) -> tuple[DiscriminatorTraining, Discriminator]:
        config = DiscriminatorConfig.tiny(**self.config) if self.size == "tiny" else DiscriminatorConfig(**self.config)
        discriminator = Discriminator.new(config, seed=self.seed)
        return DiscriminatorTraining(discriminator, DapModel.from_folder(assets["labeler"]), lr=self.lr), discriminator
