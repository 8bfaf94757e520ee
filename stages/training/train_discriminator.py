"""Training the discriminator that scores labels: ground truth against a labeler's predictions of the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...engine.steps.asset_settings import AssetUri
from .judge import JudgeTraining

if TYPE_CHECKING:
    from ...models.network.discriminator import Discriminator
    from ...models.training.discriminator import DiscriminatorTraining


@dataclass(kw_only=True)
class TrainDiscriminator(JudgeTraining):
    """A discriminator, from a packed, labelled column and a labeler."""

    name: ClassVar[str] = "train-discriminator"

    labeler: AssetUri

    def build(self, assets: Mapping[str, str]) -> tuple[DiscriminatorTraining, Discriminator]:
        from ...models.network.dap import DapModel
        from ...models.training.discriminator import DiscriminatorTraining

        discriminator = self.new_network("realism")
        return DiscriminatorTraining(discriminator, DapModel.from_folder(assets["labeler"]), lr=self.lr), discriminator
