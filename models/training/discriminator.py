"""Lightning modules of the networks that judge labels: the discriminator of the paper, and a critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch import LightningModule  # noqa: E402

from ..data.depth_png import UNITS_PER_METRE  # noqa: E402
from ..losses.losses import hinge_loss, weighted_mean  # noqa: E402
from ..metrics.alignment import BEYOND_RANGE_M  # noqa: E402
from ..network.dap import DapModel  # noqa: E402
from ..network.discriminator import ERROR_FLOOR, Discriminator  # noqa: E402
from .modules import move_frozen, scheduled  # noqa: E402
from .ranks import sum_over_ranks, world_size  # noqa: E402


@torch.no_grad()
def masked_depth_m(model: DapModel, pixel_values: Tensor) -> Tensor:
    """Predicted distances (B, H, W) with inf where the range is more probably exceeded than not."""
    output = model(pixel_values)
    if not model.config.masks_the_range:
        return output.predicted_depth
    return torch.where(output.beyond_range > 0.5, torch.inf, output.predicted_depth)


def as_stored_m(depth_m: Tensor) -> Tensor:
    """Distances (…) as the depth PNG of a label gives them back: whole units, inf beyond the range, 0 where missing."""
    units = (depth_m * UNITS_PER_METRE).round().clamp_min(1) / UNITS_PER_METRE
    return torch.where(depth_m > 0, torch.where(depth_m > BEYOND_RANGE_M, torch.inf, units), 0.0)


class DiscriminatorTraining(LightningModule):
    """Trains a discriminator to tell ground truth from a labeler's predictions of the very same images.

    Both depth maps of an image are missing in the same pixels, and both are rounded as a stored label is, so neither
    image, nor gaps, nor fine digits give the answer away.

    What it learns is not the size of an error, and whether its scores follow it changes with the seed. Spearman
    correlations with −AbsRel by solid angle, of labels averaged over eight views, on field panoramas, after
    150 steps (the critic 300):

        seed of all, panoramas   scene    discriminator             critic                    consistency
        7 (demo), 40             indoor   −0.32 (−0.61 … +0.00)     +0.35 (+0.02 … +0.62)     +0.68 (+0.44 … +0.82)
                                 outdoor  +0.26 (−0.07 … +0.55)     +0.40 (+0.10 … +0.64)     +0.22 (−0.11 … +0.51)
        11 (study), 80           indoor   −0.44 (−0.61 … −0.23)     +0.44 (+0.24 … +0.61)     +0.49 (+0.27 … +0.68)
                                 outdoor  +0.41 (+0.19 … +0.58)     −0.14 (−0.37 … +0.10)     +0.12 (−0.10 … +0.32)

    Sharpness has a part in it: of labels predicted once, after 80 steps of one seed, it has −0.49 and +0.09, and at a
    `depth_cell` of 8 +0.03 and −0.09, which is chance. The step `rank-quality` measures it for any run.
    """

    def __init__(self, discriminator: Discriminator, labeler: DapModel, *, lr: float = 2e-4):
        super().__init__()
        self.discriminator = discriminator.train()
        self.labeler = [labeler.eval().requires_grad_(False)]  # in a list: no part of this module or its checkpoints
        self.lr = lr

    def on_fit_start(self) -> None:
        move_frozen(self.labeler[0], self)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        real_m = torch.where(batch["beyond_range"], torch.inf, batch["depth_m"])
        known = batch["valid"] | batch["beyond_range"]
        fake_m = torch.where(known, as_stored_m(masked_depth_m(self.labeler[0], batch["pixel_values"])), 0.0)
        real_logits = self.discriminator(batch["pixel_values"], real_m)
        fake_logits = self.discriminator(batch["pixel_values"], fake_m)
        present = batch["present"].to(real_logits.dtype)
        loss = hinge_loss(real_logits, fake_logits, present, sum_over_ranks)
        told_apart = real_logits.mean(dim=(1, 2)) > fake_logits.mean(dim=(1, 2))
        accuracy = weighted_mean(told_apart, present, dims=(0,), pool=sum_over_ranks)
        self.log_dict({"train/hinge": loss.detach(), "train/accuracy": accuracy}, batch_size=len(real_m))
        return loss * world_size()

    def configure_optimizers(self) -> Any:
        return AdamW(self.discriminator.parameters(), lr=self.lr, betas=(0.5, 0.999))


class CriticTraining(LightningModule):
    """Teaches a network of the discriminator's kind how far a labeler's predictions are off, patch by patch.

    Its target is ln(mean |ln label − ln truth| + ERROR_FLOOR) over a patch, of the labeler's predictions as labels are
    stored, on augmented images of known depth. Where a label says "beyond the range" it has no distance, and no error:
    counted as 100 m, such pixels would be most of what it learns outdoors. With several labelers, such as one at
    several stages of its training, they take turns by step, and it sees small errors and large ones. Figures stand
    above.
    """

    def __init__(self, critic: Discriminator, labelers: Sequence[DapModel], *, steps: int, lr: float = 2e-4):
        super().__init__()
        if critic.config.judges != "error":
            raise ValueError("a critic judges the error: set `judges` in its configuration")
        self.critic = critic.train()
        self.labelers = [labeler.eval().requires_grad_(False) for labeler in labelers]  # a list, as above
        self.steps, self.lr = steps, lr

    def on_fit_start(self) -> None:
        for labeler in self.labelers:
            move_frozen(labeler, self)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        labeler = self.labelers[self.global_step % len(self.labelers)]
        label_m = as_stored_m(masked_depth_m(labeler, batch["pixel_values"]))
        predicted = self.critic(batch["pixel_values"], label_m)
        in_both = batch["valid"] & label_m.isfinite()
        target, known = patch_errors(label_m, batch["depth_m"], in_both, predicted.shape[-2:])
        loss = F.smooth_l1_loss(predicted[known], (target[known] + ERROR_FLOOR).log(), reduction="sum")
        loss = sum_over_ranks(loss) / sum_over_ranks(known.sum()).clamp_min(1)
        self.log_dict({"train/critic": loss.detach()}, batch_size=len(label_m))
        return loss * world_size()

    def configure_optimizers(self) -> Any:
        optimizer = AdamW(self.critic.parameters(), lr=self.lr, betas=(0.9, 0.99))
        return scheduled(optimizer, warmup_steps=min(20, self.steps // 10), steps=self.steps)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, 1.0, "norm")


def patch_errors(label_m: Tensor, depth_m: Tensor, valid: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean |Δ ln distance| in every patch of a grid (B, h, w), of labels and truth (B, H, W) in metres.

    And where it is known: where at least half of the patch is `valid`, that is, has a distance in both.
    """
    cell = (label_m.shape[-2] // grid[0], label_m.shape[-1] // grid[1])
    error = torch.where(valid, (_log(label_m) - _log(depth_m)).abs(), 0)
    share = F.avg_pool2d(valid.float()[:, None], cell)[:, 0]
    return F.avg_pool2d(error[:, None], cell)[:, 0] / share.clamp_min(1e-3), share >= 0.5


def _log(distance_m: Tensor) -> Tensor:
    """ln of distances, from 5 cm to the range."""
    return distance_m.clamp(0.05, BEYOND_RANGE_M).log()
