"""Rotary positions that close around a panorama, for DINOv3 backbones."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import DINOv3ViTConfig  # noqa: E402


class PeriodicPositions(nn.Module):
    """DINOv3's rotary positions, each frequency along the columns rounded to whole turns of 360°.

    DINOv3 turns its i-th pair of channels by 2π·c·f, f = 100^(−i/n), over a coordinate c from −1 to 1: by 2f turns
    over the width, which leaves a seam wherever 2f is not whole. Rounded, what one patch sees of another depends on how
    far apart they are around the sphere. The class and register tokens, which are not turned, still see the patches
    from a fixed meridian, so that features turn with their input nearly, not exactly. A pretrained backbone wants some
    training to make up for what was rounded.
    """

    def __init__(self, config: DINOv3ViTConfig):
        super().__init__()
        self.patch = cast(int, config.patch_size)
        self.frequencies = config.hidden_size // config.num_attention_heads // 4
        self.base = config.rope_theta

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (h·w, D) for images (B, 3, patch·h, patch·w), D channels a head."""
        height, width = (size // self.patch for size in pixel_values.shape[-2:])
        counts = torch.arange(self.frequencies, device=pixel_values.device)
        turns = 2 / self.base ** (counts / self.frequencies)
        rows = math.pi * _centres(height, pixel_values.device)[:, None] * turns
        columns = math.pi * _centres(width, pixel_values.device)[:, None] * turns.round()
        grid = rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)
        angles = torch.cat(grid, dim=-1).flatten(0, 1).tile(2)
        return angles.cos().to(pixel_values.dtype), angles.sin().to(pixel_values.dtype)


def _centres(count: int, device: torch.device) -> Tensor:
    """Centres of `count` equal parts of [−1, 1]."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1
