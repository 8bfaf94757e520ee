"""What the trainings of networks that judge labels share: the discriminator's and the critic's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .settings import DataConfig, Hardware
from .training import Training

if TYPE_CHECKING:
    from ...models.network.discriminator import Discriminator


@dataclass(kw_only=True)
class JudgeTraining(Training):
    """From a packed, labelled column and what labelers say of its images.

    `config` are fields of the network's configuration, beside those of the tiny one if that is the `size`.
    """

    model: str
    data: str
    steps: int
    lr: float = 2e-4
    size: Literal["tiny", "config"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    batches: DataConfig = field(default_factory=DataConfig)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoint_every: int = 50
    loggers: list[Any] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        return self.steps

    def check(self) -> None:
        super().check()
        for name in ("micro_batch_size", "gradient_checkpointing", "compile", "strategy"):
            if getattr(self.hardware, name) != getattr(Hardware, name):
                raise ValueError(f"hardware.{name} is for the step train alone")

    def new_network(self, judges: Literal["realism", "error"]) -> Discriminator:
        """The network before its training."""
        from ...models.network.discriminator import Discriminator, DiscriminatorConfig

        make = DiscriminatorConfig.tiny if self.size == "tiny" else DiscriminatorConfig
        return Discriminator.new(make(**{"judges": judges, **self.config}), seed=self.seed)
