"""Training the critic that scores labels: it learns how far a labeler's predictions of known images are off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...engine.steps.asset_settings import AssetUri
from ...models.network.dap import DapModel
from ...models.network.discriminator import Discriminator, DiscriminatorConfig
from ...models.training.discriminator import CriticTraining
from .fit import DataConfig, Hardware
from .training import Training


@dataclass
class TrainCritic(Training):
    """A critic, from a packed, labelled column and the labelers whose errors it learns, by names of their own."""

    name: ClassVar[str] = "train-critic"

    model: str
    data: str
    labelers: dict[str, AssetUri]
    steps: int
    lr: float = 2e-4
    size: Literal["tiny", "config"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    batches: DataConfig = field(default_factory=DataConfig)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if not self.labelers:
            raise ValueError("train-critic: needs a labeler at least")

    @property
    def total_steps(self) -> int:
        return self.steps

    def build(self, assets: Mapping[str, str]) -> tuple[CriticTraining, Discriminator]:
        settings = {"judges": "error", **self.config}
        config = DiscriminatorConfig.tiny(**settings) if self.size == "tiny" else DiscriminatorConfig(**settings)
        critic = Discriminator.new(config, seed=self.seed)
        labelers = [DapModel.from_folder(assets[name]) for name in sorted(self.labelers)]
        return CriticTraining(critic, labelers, steps=self.steps, lr=self.lr), critic
