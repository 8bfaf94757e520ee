"""The Lightning module of the depth network."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch import LightningModule  # noqa: E402

from ..losses.objective import LossWeights, RangeMaskKind, Target, dap_loss, distortion_map  # noqa: E402
from ..losses.relative import feature_alignment_loss  # noqa: E402
from ..metrics.depth import DepthMetrics  # noqa: E402
from ..network.dap import DapModel  # noqa: E402


@dataclass(frozen=True)
class TrainSettings:
    """How a depth network is trained; the learning rates are the published ones, for a pretrained backbone."""

    steps: int
    backbone_lr: float = 5e-6
    decoder_lr: float = 5e-5
    weight_decay: float = 0.01
    warmup_steps: int = 0
    gradient_clip: float = 1.0
    losses: LossWeights = field(default_factory=LossWeights)
    """Factors of the losses; by default SILog and the range mask alone. Published: `objective.PUBLISHED`."""
    range_mask_kind: RangeMaskKind = "bce"
    feature_alignment: float = 0.0
    """Factor of the alignment with the features that the backbone began with, frozen (arXiv 2401.10891)."""
    feature_margin: float = 0.85
    source_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of an image by its source, such as less for pseudo-labels; 1 for what is not named."""


def warmup_cosine(step: int, *, warmup_steps: int, steps: int) -> float:
    """Factor of the learning rate: a linear rise over the warm-up, then half a cosine down to 0 at `steps`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def scheduled(optimizer: Optimizer, *, warmup_steps: int, steps: int) -> dict[str, Any]:
    """The optimizer with its schedule, as Lightning takes them."""
    scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup_steps=warmup_steps, steps=steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@contextmanager
def kept_features(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """The last feature map (B, C, h, w) of every call of the backbone inside."""
    features: list[Tensor] = []
    hook = backbone.register_forward_hook(lambda module, inputs, output: features.append(output.feature_maps[-1]))
    try:
        yield features
    finally:
        hook.remove()


class DapTraining(LightningModule):
    """Supervised training of a `DapModel` on the batches of `PanoramaDataModule`."""

    def __init__(self, model: DapModel, settings: TrainSettings):
        super().__init__()
        if model.mask_head is None and settings.losses.range_mask:
            raise ValueError("the model has no range mask to train: set losses.range_mask to 0")
        self.model = model.train()
        self.settings = settings
        self.metrics = DepthMetrics()
        self.frozen: list[nn.Module] = []  # a list: no part of this module or its checkpoints
        if settings.feature_alignment:
            self.frozen = [copy.deepcopy(model.backbone).eval().requires_grad_(False)]

    def on_fit_start(self) -> None:
        for backbone in self.frozen:
            backbone.to(self.device)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """FloatingPointError, on all ranks, for a loss of nan or inf, before a weight or a checkpoint takes it on."""
        with kept_features(self.model.backbone) as features:
            output = self.model(batch["pixel_values"])
        target = Target(batch["depth_m"], batch["valid"], self._is_beyond(batch))
        terms = dap_loss(
            output.predicted_depth,
            output.beyond_range,
            target,
            weights=self.settings.losses,
            image_weight=self._image_weight(batch["source"]),
            range_m=self.model.config.max_depth_m,
            range_mask_kind=self.settings.range_mask_kind,
        )
        for backbone in self.frozen:
            alignment = self._alignment(backbone, batch["pixel_values"], features[0])
            terms |= {"features": alignment, "total": terms["total"] + self.settings.feature_alignment * alignment}
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(batch["key"]))
        if not _is_number_on_all_ranks(terms["total"]):
            values = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items())
            where = " on another rank" if terms["total"].isfinite() else ""
            raise FloatingPointError(f"step {self.global_step}: the loss is no number any more{where}: {values}")
        return terms["total"]

    def _is_beyond(self, batch: dict[str, Any]) -> Tensor:
        """The target of the range mask: the threshold of a model may be below the range of its depth."""
        threshold_m = self.model.config.range_threshold_m or self.model.config.max_depth_m
        return batch["beyond_range"] | (batch["valid"] & (batch["depth_m"] > threshold_m))

    def _alignment(self, backbone: nn.Module, pixel_values: Tensor, features: Tensor) -> Tensor:
        with torch.no_grad():
            frozen = backbone(pixel_values).feature_maps[-1]
        weight = distortion_map(features)
        return feature_alignment_loss(features, frozen, margin=self.settings.feature_margin, weight=weight)

    def _image_weight(self, sources: list[str]) -> Tensor:
        return torch.tensor([self.settings.source_weights.get(source, 1.0) for source in sources], device=self.device)

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        depth_m = self.model(batch["pixel_values"]).predicted_depth
        self.metrics.update(depth_m, batch["depth_m"], batch["valid"])

    def on_validation_epoch_end(self) -> None:
        values = self.metrics.compute()
        self.log_dict({f"validation/{name}": values[name] for name in ("abs_rel", "rmse", "delta1")}, prog_bar=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        settings = self.settings
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            parts[name.startswith("backbone.")].append(parameter)
        groups = [
            {"params": parts[True], "lr": settings.backbone_lr},
            {"params": parts[False], "lr": settings.decoder_lr},
        ]
        optimizer = AdamW(groups, weight_decay=settings.weight_decay)
        return scheduled(optimizer, warmup_steps=settings.warmup_steps, steps=settings.steps)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, self.settings.gradient_clip, "norm")


def _is_number_on_all_ranks(loss: Tensor) -> bool:
    finite = loss.detach().isfinite().float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite)
