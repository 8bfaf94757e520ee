"""Training a depth model on a packed column: a barrier of the recipe, and what `dap train` calls."""

# No `annotations` of `__future__` here: to read settings, text would be evaluated with all that TYPE_CHECKING names.

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...engine.steps.asset_settings import AssetUri
from ...engine.storage.place import Place
from ...models.training.settings import Figure, TrainSettings
from .settings import Data, DataConfig, Hardware, columns_of
from .training import Training

if TYPE_CHECKING:
    from ...models.network.dap import DapModel
    from ...models.training.modules import DapTraining


@dataclass(frozen=True)
class Network:
    """The network to train: weights to start from, or a backbone, or else a size from scratch.

    `size` is `tiny` or `config`, which takes the fields of DapConfig from `config`.
    """

    size: Literal["tiny", "config"] = "tiny"  # a small one, or that of `config`
    config: dict[str, Any] = field(default_factory=dict)  # fields of DapConfig
    backbone: AssetUri | None = None  # folder or hub id of a DINOv3 backbone
    seed: int = 0  # of fresh weights

    def build(self, init: str | None, backbone: str | None) -> "DapModel":
        """The model with its first weights; `init` and `backbone` are local folders or hub ids."""
        from ...models.network.dap import DapConfig, DapModel

        if init:
            return DapModel.from_folder(init)
        if backbone:
            return DapModel.from_backbone(backbone, seed=self.seed, **self.config)
        config = DapConfig.tiny(**self.config) if self.size == "tiny" else DapConfig(**self.config)
        return DapModel.new(config, seed=self.seed)


@dataclass
class Train(Training):
    """A depth model, from first weights and a packed column."""

    name: ClassVar[str] = "train"

    model: str
    data: Data  # a packed column, a list of them, or a mapping that gives each its weight in a batch
    training: TrainSettings
    init: AssetUri | None = None  # a model folder or hub id to go on from, in place of a network
    range_mask_m: float | None = None  # threshold of a fresh range mask, such as 10 m, in place of that of `init`
    network: Network = field(default_factory=Network)
    frozen_encoder: AssetUri | None = None
    """Folder or hub id of a backbone (DINOv2, DINOv3) whose features are aligned with; else the network's first one."""
    batches: DataConfig = field(default_factory=DataConfig)
    hardware: Hardware = field(default_factory=Hardware)
    checkpoint_every: int = 50  # steps
    validate_every: int = 0  # steps; 0: four times over the training, the end included
    validate_samples: int = 64  # at most, at equal distances; 0: all. The end is validated on all
    keep: int = 1  # how many of the best models stay beside the last, in training/best
    best_by: Figure = "abs_rel"  # the figure that says which are best
    loggers: list[Any] = field(default_factory=list)
    """Lightning's, by class path: [lightning.pytorch.loggers.MLFlowLogger], or {class_path: …, init_args: {…}}."""

    @property
    def total_steps(self) -> int:
        return self.training.steps

    def check(self) -> None:
        super().check()
        names = [Place.parse(name).name for name in columns_of(self.data)]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"data: {names} are no columns of different names")
        if self.init and self.network != Network():
            raise ValueError("network contradicts init, which brings its own: leave out one of them")
        if self.training.fused and self.hardware.precision == "16-mixed":
            raise ValueError("training.fused cannot clip the scaled gradients of 16-mixed: use bf16-mixed")
        if self.frozen_encoder and not self.training.feature_alignment:
            raise ValueError("frozen_encoder is for training.feature_alignment, which is 0")
        if self.range_mask_m and not self.init:
            raise ValueError("range_mask_m is for the model of init; a new one has network.config.range_threshold_m")
        if self.init and Path(self.init).exists() and not (Path(self.init) / "config.json").is_file():
            raise ValueError(f"init {self.init}: is no model folder, it has no config.json")

    def build(self, assets: Mapping[str, str]) -> "tuple[DapTraining, DapModel]":
        from ...models.network.dap import DapModel
        from ...models.training.modules import DapTraining
        from ...models.training.speed import checkpoint_gradients, compile_blocks

        network = self.network.build(assets.get("init"), assets.get("backbone"))
        if self.range_mask_m:
            network.plug_range_mask(self.range_mask_m, seed=self.batches.seed)
        encoder = assets.get("frozen_encoder")
        frozen = DapModel.from_backbone(encoder).backbone if encoder else None
        module = DapTraining(
            network, self.training, micro_batch_size=self.hardware.micro_batch_size, frozen_encoder=frozen
        )
        if self.hardware.gradient_checkpointing:
            checkpoint_gradients(network)
        if self.hardware.compile:
            compile_blocks(network, self.hardware.compile_backend)
        return module, network
