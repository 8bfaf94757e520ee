"""The Lightning module of the depth network."""

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch import LightningModule  # noqa: E402

from ..geometry.equirectangular import resize  # noqa: E402
from ..losses.objective import Target, dap_loss, distortion_map  # noqa: E402
from ..losses.relative import feature_alignment_loss  # noqa: E402
from ..network.dap import DapModel  # noqa: E402
from .ranks import of_all_ranks, sum_over_ranks, world_size  # noqa: E402
from .settings import Part, TrainSettings  # noqa: E402
from .sharded import shard  # noqa: E402
from .validation import Validation  # noqa: E402

FUSED_ADAMW = ("cuda", "cpu", "xpu", "mps")
"""Devices for which torch has it."""


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


def move_frozen(network: nn.Module, module: LightningModule) -> None:
    """Moves a network that is no part of a module to its device, and to float64 where that computes in it."""
    nn.Module.to(network, module.device)
    if module.dtype == torch.float64:
        network.double()


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
    """Supervised training of a `DapModel` on the batches of `PanoramaDataModule`.

    A rank computes at most `micro_batch_size` images at once (0: all of its batch), which changes nothing but memory
    and time: the network runs once without gradients, the loss of the whole batch gives the gradients of its outputs,
    and then it runs again, part by part, to take them on to the weights.
    """

    def __init__(
        self,
        model: DapModel,
        settings: TrainSettings,
        *,
        micro_batch_size: int = 0,
        frozen_encoder: nn.Module | None = None,
    ):
        super().__init__()
        losses = [settings.losses, *settings.losses_by_source.values()]
        if model.mask_head is None and any(kind.range_mask for kind in losses):
            raise ValueError("the model has no range mask to train: set losses.range_mask to 0")
        self.model = model.train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_part(name) in settings.trained_parts)
        self.settings, self.micro_batch_size = settings, micro_batch_size
        self.average = None
        if settings.ema:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)).requires_grad_(False)
        self.register_buffer("skipped", torch.tensor(0))  # steps so far
        self.no_number: dict[str, Any] | None = None
        """The batch of this step, if its loss is none: step, terms, and the keys and sources of all ranks."""
        self.validation = Validation()
        self.grad_norm = torch.tensor(torch.nan)  # of the last step, before it was clipped
        self.frozen: list[nn.Module] = []  # a list: no part of this module or its checkpoints
        if settings.feature_alignment:
            encoder: Any = frozen_encoder or copy.deepcopy(model.backbone)
            if (width := encoder.config.hidden_size) != model.config.backbone.hidden_size:
                raise ValueError(
                    f"features of {width} channels cannot be aligned with {model.config.backbone.hidden_size}"
                )
            self.frozen = [encoder.eval().requires_grad_(False)]

    def configure_model(self) -> None:
        """Where the strategy has a mesh, it spreads the parameters over it."""
        if self._device_mesh is not None:
            for network in dict.fromkeys((self.model, self.network)):
                shard(network, self._device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        for backbone in self.frozen:
            move_frozen(backbone, self)

    @property
    def network(self) -> DapModel:
        """The model as it is validated and kept: the average of the weights, if there is one."""
        return self.average.module if self.average else self.model  # pyright: ignore[reportReturnType]

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        self.zero_grad()
        self.no_number = None
        if self.settings.freeze_steps and "backbone" in self.settings.trained_parts:
            self.model.backbone.requires_grad_(self.global_step >= self.settings.freeze_steps)

    def optimizer_zero_grad(self, *_: Any) -> None:
        """Lightning would after `training_step`, where the first parts of a batch have left their gradients."""

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """FloatingPointError, on all ranks, for one loss of nan or inf too many; before that they change no weight."""
        pixel_values = batch["pixel_values"]
        if 0 < self.micro_batch_size < len(pixel_values):
            return self._step_by_parts(batch)
        return self._loss(batch, self._outputs(pixel_values)) * world_size()

    def _step_by_parts(self, batch: dict[str, Any]) -> Tensor:
        """Leaves the gradients of all parts but the last; returns what gives those of the last."""
        parts, seed = batch["pixel_values"].split(self.micro_batch_size), torch.initial_seed()
        with torch.no_grad():
            outputs = [self._outputs(part, seed) for part in parts]
        torch.clear_autocast_cache()  # of weights without gradients
        whole = [torch.cat(maps).requires_grad_() for maps in zip(*outputs, strict=True)]
        gradients = torch.autograd.grad(self._loss(batch, whole) * world_size(), whole, materialize_grads=True)
        by_part = zip(*(gradient.split(self.micro_batch_size) for gradient in gradients), strict=True)
        *before, last = zip(parts, by_part, strict=True)
        for part, of_part in before:
            carried = self._carrying(part, of_part, seed)
            with torch.autocast(self.device.type, enabled=False):
                self.trainer.strategy.backward(carried, None)
        return self._carrying(*last, seed)

    def _carrying(self, pixel_values: Tensor, gradients: Sequence[Tensor], seed: int) -> Tensor:
        """A scalar whose gradient is that of the loss, where `gradients` are the loss's by the outputs."""
        outputs = self._outputs(pixel_values, seed)
        return torch.stack([(maps * by).sum() for maps, by in zip(outputs, gradients, strict=True)]).sum()

    def _outputs(self, pixel_values: Tensor, seed: int | None = None) -> list[Tensor]:
        """Distances, probabilities of the range mask, and features where they are aligned."""
        if seed is not None:
            torch.manual_seed(seed)  # a network that draws does so alike in every part, and again
        with kept_features(self.model.backbone) as features:
            output = self.model(pixel_values)
        return [output.predicted_depth, output.beyond_range, *(features if self.frozen else [])]

    def _loss(self, batch: dict[str, Any], outputs: Sequence[Tensor]) -> Tensor:
        """The loss of the global batch, as this rank's outputs change it; logs its terms."""
        depth_m, beyond_range, *features = outputs
        terms = dap_loss(
            depth_m,
            beyond_range,
            Target(batch["depth_m"], batch["valid"], self._is_beyond(batch)),
            weights=self.settings.losses,
            by_source=self.settings.losses_by_source,
            sources=batch["source"],
            cut=batch.get("cut"),
            by_solid_angle=self.settings.distortion_map,
            noisy_share=self.settings.noisy_share,
            image_weight=self._image_weight(batch),
            range_m=self.model.config.max_depth_m,
            range_mask_kind=self.settings.range_mask_kind,
            pool=sum_over_ranks,
        )
        for backbone in self.frozen:
            alignment = self._alignment(backbone, batch, features[0])
            terms |= {"features": alignment, "total": terms["total"] + self.settings.feature_alignment * alignment}
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(batch["key"]))
        if terms["total"].isfinite():
            return terms["total"]
        self._note_no_number(batch, {name: term.item() for name, term in terms.items()})
        return torch.stack([(maps.nan_to_num() * 0).sum() for maps in outputs]).sum()

    def _note_no_number(self, batch: dict[str, Any], terms: dict[str, float]) -> None:
        there = [pair for pair in of_all_ranks([*zip(batch["key"], batch["source"], strict=True)]) if pair[0]]
        keys, sources = ([*column] for column in zip(*there, strict=True))
        self.no_number = {"step": self.global_step, "terms": terms, "keys": keys, "sources": sources}
        self.skipped += 1
        if self.skipped > self.settings.max_skipped:
            values = ", ".join(f"{name} {term:.4g}" for name, term in terms.items())
            raise FloatingPointError(f"step {self.global_step}: the loss is no number any more: {values}")

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        if self.average:
            self.average.update_parameters(self.model)

    def on_train_end(self) -> None:
        if self.average:
            self.model.load_state_dict(self.average.module.state_dict())

    def _is_beyond(self, batch: dict[str, Any]) -> Tensor:
        """The target of the range mask: the threshold of a model may be below the range of its depth."""
        threshold_m = self.model.config.range_threshold_m or self.model.config.max_depth_m
        return batch["beyond_range"] | (batch["valid"] & (batch["depth_m"] > threshold_m))

    def _alignment(self, backbone: nn.Module, batch: dict[str, Any], features: Tensor) -> Tensor:
        with torch.no_grad():
            frozen = backbone(batch["pixel_values"]).feature_maps[-1]
            if frozen.shape[-2:] != features.shape[-2:]:  # its patches are of another size
                frozen = resize(frozen, *features.shape[-2:])
        aligned = self.settings.aligned_sources
        images = features.new_tensor([not aligned or source in aligned for source in batch["source"]])
        weight = distortion_map(features) * (images * batch["present"])[:, None, None]
        margin = self.settings.feature_margin
        return feature_alignment_loss(features, frozen, margin=margin, weight=weight, pool=sum_over_ranks)

    def _image_weight(self, batch: dict[str, Any]) -> Tensor:
        """That of each image (B,), by its source and by how far the views of its label agree."""
        weights = []
        for key, source, spread in zip(batch["key"], batch["source"], batch["spread"], strict=True):
            weight = self.settings.source_weights.get(source, 1.0)
            if sharpness := self.settings.confidence.get(source, 0.0):
                if spread is None:
                    raise ValueError(f"confidence: the label of {key} has no spread: give views to its step")
                weight *= math.exp(-sharpness * spread)
            weights.append(weight)
        return torch.tensor(weights, device=self.device)

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        self.validation.add(self.network(batch["pixel_values"]).predicted_depth, batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.validation.compute(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        settings, groups = self.settings, dict[str, dict[str, Any]]()
        last = self.model.config.backbone.num_hidden_layers + 1
        for name, parameter in self.model.named_parameters():
            if _part(name) not in settings.trained_parts:
                continue
            part, lr = "decoder", settings.decoder_lr
            if name.startswith("backbone."):
                part, lr = "backbone", settings.backbone_lr
                if settings.layer_decay < 1:
                    depth = _depth(name, last)
                    part, lr = f"backbone-{depth}", lr * settings.layer_decay ** (last - depth)
            groups.setdefault(part, {"params": [], "lr": lr, "name": part})["params"].append(parameter)
        fused = settings.fused and self.device.type in FUSED_ADAMW
        optimizer = AdamW(list(groups.values()), weight_decay=settings.weight_decay, fused=fused or None)
        return scheduled(optimizer, warmup_steps=settings.warmup_steps, steps=settings.steps)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        if self.no_number:
            self.zero_grad()  # without any gradient, the optimizer changes nothing
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip or math.inf)
        self.grad_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm


def _part(name: str) -> Part:
    """Of a parameter of the network."""
    heads: dict[str, Part] = {"depth_head": "depth", "mask_head": "range_mask"}
    return heads.get(name.partition(".")[0], "backbone")


def _depth(name: str, last: int) -> int:
    """Of a parameter of the backbone: 0 for the embeddings, 1 … for the layers, `last` for what follows them."""
    if layer := re.search(r"\.layers?\.(\d+)\.", name):
        return 1 + int(layer[1])
    return 0 if "embeddings" in name else last
