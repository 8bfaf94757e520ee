"""Training the critic that scores labels: it learns how far a labeler's predictions of known images are off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...engine.steps.asset_settings import AssetUri
from .judge import JudgeTraining

if TYPE_CHECKING:
    from ...models.network.discriminator import Discriminator
    from ...models.training.discriminator import CriticTraining


@dataclass(kw_only=True)
class TrainCritic(JudgeTraining):
    """A critic, from a packed, labelled column and the labelers whose errors it learns, by names of their own."""

    name: ClassVar[str] = "train-critic"

    labelers: dict[str, AssetUri]

    def __post_init__(self) -> None:
        if not self.labelers:
            raise ValueError("train-critic: needs a labeler at least")

    def build(self, assets: Mapping[str, str]) -> tuple[CriticTraining, Discriminator]:
        from ...models.network.dap import DapModel
        from ...models.training.discriminator import CriticTraining

        critic = self.new_network("error")
        labelers = [DapModel.from_folder(assets[name]) for name in sorted(self.labelers)]
        return CriticTraining(critic, labelers, steps=self.steps, lr=self.lr), critic
