"""PatchGAN (arXiv 1611.07004): patch by patch, what a depth map of an image is worth as a label.

It tells true depth from predicted depth, or, as a critic, says how far the depth is off.
"""

import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry.equirectangular import solid_angle, working_dtype
from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoConfig, AutoModel, PreTrainedConfig  # noqa: E402
from transformers import initialization as init  # noqa: E402

from .pretrained import StrictPreTrainedModel  # noqa: E402

ERROR_FLOOR = 0.02  # of ln distance, so that a patch without error has a logarithm


class DiscriminatorConfig(PreTrainedConfig):
    """`channels` of every layer, each of which halves the grid; `image_height`: native input height.

    `judges`: what a patch's output is. "realism": the logit of being ground truth. "error": ln of (mean |Δ ln distance|
    + ERROR_FLOOR) of the patch. ln distance is averaged over squares of `depth_cell` pixels first: as many as a patch
    has, and truth and labels are equally sharp.
    """

    model_type = "dap_discriminator"

    channels: tuple[int, ...] | list[int] = (64, 128, 256, 512)
    min_depth_m: float = 0.1
    max_depth_m: float = 100.0
    image_height: int = 512
    depth_cell: int = 1
    judges: Literal["realism", "error"] = "realism"

    @property
    def image_size(self) -> tuple[int, int]:
        """Native (height, width) of the input."""
        return self.image_height, 2 * self.image_height

    @classmethod
    def tiny(cls, **fields: Any) -> Self:
        """About 0.17 M parameters, for 96×192 on a CPU."""
        return cls(**{"channels": (32, 64, 128), "image_height": 96, **fields})


class WrappedConv(nn.Conv2d):
    """A convolution of kernel 4 and stride 2, wrapped around the seam; rows are repeated at the poles."""

    def forward(self, input: Tensor) -> Tensor:
        wide = F.pad(input, (1, 1, 0, 0), mode="circular")
        return super().forward(F.pad(wide, (0, 0, 1, 1), mode="replicate"))


class Discriminator(StrictPreTrainedModel):
    """What patches of a depth map are worth, given the image: see `judges` of its configuration."""

    config_class = DiscriminatorConfig
    config: DiscriminatorConfig
    base_model_prefix = "discriminator"
    main_input_name = "pixel_values"

    def __init__(self, config: DiscriminatorConfig):
        super().__init__(config)
        if config.depth_cell < 1 or config.image_height % config.depth_cell:
            raise ValueError(f"depth_cell {config.depth_cell} does not divide the height of {config.image_height}")
        layers: list[nn.Module] = []
        inputs = 4
        for outputs in config.channels:
            # The norm looks at one sample alone, so that a score does not depend on the rest of its batch.
            norm = nn.GroupNorm(1, outputs) if layers else nn.Identity()
            layers += [WrappedConv(inputs, outputs, 4, stride=2), norm, nn.LeakyReLU(0.2)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.output = nn.Conv2d(inputs, 1, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor, depth_m: Tensor) -> Tensor:
        """Outputs (B, h, w) of patches, from pixel values (B, 3, H, W) and ray distance (B, H, W).

        inf is beyond the range; nan or 0 is missing, and should be missing alike in what is compared.
        """
        stacked = torch.cat([self._normalised(depth_m)[:, None].to(pixel_values.dtype), pixel_values], dim=1)
        logits = self.output(self.features(stacked))[:, 0]
        return logits.to(working_dtype(logits.dtype))

    def score(self, pixel_values: Tensor, depth_m: Tensor) -> Tensor:
        """Scores in [0, 1], (B,): the higher, the better the label.

        Realism: the mean probability of a patch to be ground truth. Error: exp(−mean error), the mean by solid angle.
        """
        patches = self(pixel_values, depth_m)
        if self.config.judges == "realism":
            return torch.sigmoid(patches).mean(dim=(1, 2))
        area = solid_angle(*patches.shape[-2:]).to(patches)
        return torch.exp(-(patches.exp() * area).sum(dim=(1, 2)) / area.expand_as(patches[0]).sum())

    def _normalised(self, depth_m: Tensor) -> Tensor:
        """ln d from the middle of the range on, so that a doubling weighs like a clear edge in the image."""
        nearest, farthest = self.config.min_depth_m, self.config.max_depth_m
        clamped = depth_m.nan_to_num(nearest, posinf=farthest).clamp(nearest, farthest)
        log = (clamped / math.sqrt(nearest * farthest)).log()
        if (cell := self.config.depth_cell) == 1:
            return log
        means = F.avg_pool2d(log[:, None], cell)[:, 0]
        return means.repeat_interleave(cell, dim=-2).repeat_interleave(cell, dim=-1)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """He initialisation: the usual ±0.02 takes a small network hundreds of steps to grow out of."""
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
            if module.bias is not None:
                init.zeros_(module.bias)


AutoConfig.register(DiscriminatorConfig.model_type, DiscriminatorConfig)
AutoModel.register(DiscriminatorConfig, Discriminator)
