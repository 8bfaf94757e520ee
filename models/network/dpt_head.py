"""Dense prediction head of Depth Anything V2 (DPT, arXiv 2103.13413), flat or on the sphere.

Four feature maps of the backbone are brought to 4, 2, 1 and ½ times the patch grid, then fused from coarse to fine.
`plain` is the published shape: zero padding, align_corners resizing. `spherical` sees the true neighbours of every
pixel, around the ±180° seam and over the poles, resizes the same way, and knows the latitude: turning its input by
whole cells of the coarsest grid turns its output, exactly.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry.equirectangular import latitudes, pad_sphere

Decoder = Literal["plain", "spherical"]


class Conv(nn.Conv2d):
    """A convolution (odd kernel) that keeps its input's size, or divides it by its stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, decoder: Decoder, *, stride: int = 1, bias: bool = True):
        self.border = kernel // 2 if decoder == "spherical" else 0
        padding = 0 if decoder == "spherical" else kernel // 2
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad_sphere(input, self.border) if self.border else input)


def resize(features: Tensor, size: tuple[int, int], decoder: Decoder, *, border: int = 1) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size`. On the sphere, `border` cells must become whole pixels."""
    if decoder == "plain":
        return F.interpolate(features, size, mode="bilinear", align_corners=True)
    top, left = (border * new // old for new, old in zip(size, features.shape[-2:], strict=True))
    padded = (size[0] + 2 * top, size[1] + 2 * left)
    large = F.interpolate(pad_sphere(features, border), padded, mode="bilinear", align_corners=False)
    return large[..., top : top + size[0], left : left + size[1]]


class ResidualUnit(nn.Module):
    def __init__(self, features: int, decoder: Decoder):
        super().__init__()
        self.conv1 = Conv(features, features, 3, decoder)
        self.conv2 = Conv(features, features, 3, decoder)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer map to what was fused so far, and resizes the sum. The coarsest level has nothing to add to."""

    def __init__(self, features: int, decoder: Decoder, *, coarsest: bool):
        super().__init__()
        self.decoder: Decoder = decoder
        self.lateral = None if coarsest else ResidualUnit(features, decoder)
        self.merge = ResidualUnit(features, decoder)
        self.out_conv = Conv(features, features, 1, decoder)

    def forward(self, fused: Tensor | None, finer: Tensor, size: tuple[int, int]) -> Tensor:
        merged = finer if fused is None or self.lateral is None else fused + self.lateral(finer)
        height = merged.shape[-2]
        border = 1 if size[0] == 2 * height else height  # the coarsest map's height may have been rounded up
        return self.out_conv(resize(self.merge(merged), size, self.decoder, border=border))


class Latitude(nn.Module):
    """A learned bias for every row: features of sin kφ and cos kφ, k = 1, 2, 4; (1, features, H, 1)."""

    FREQUENCIES = (1, 2, 4)

    def __init__(self, features: int):
        super().__init__()
        self.mix = nn.Linear(2 * len(self.FREQUENCIES), features, bias=False)

    def forward(self, height: int) -> Tensor:
        weight = self.mix.weight
        phi = latitudes(height, device=weight.device, dtype=weight.dtype)
        waves = [wave for k in self.FREQUENCIES for wave in (torch.sin(k * phi), torch.cos(k * phi))]
        return self.mix(torch.stack(waves, dim=-1)).T[None, :, :, None]


class DptHead(nn.Module):
    """Four maps (B, hidden, h, w) of the backbone to one map of logits (B, patch·h, patch·w)."""

    def __init__(
        self, hidden: int, channels: tuple[int, ...], features: int, output_features: int, patch: int, decoder: Decoder
    ):
        super().__init__()
        self.patch = patch
        self.decoder: Decoder = decoder
        first, second, _, last = channels
        self.projects = nn.ModuleList(Conv(hidden, c, 1, decoder) for c in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                Conv(last, last, 3, decoder, stride=2),
            ]
        )
        self.layer_rn = nn.ModuleList(Conv(c, features, 3, decoder, bias=False) for c in channels)
        self.latitude = nn.ModuleList(Latitude(features) for _ in channels) if decoder == "spherical" else None
        self.refinenets = nn.ModuleList(Fusion(features, decoder, coarsest=level == 3) for level in range(4))
        self.output_conv1 = Conv(features, features // 2, 3, decoder)
        self.output_conv2 = Conv(features // 2, output_features, 3, decoder)
        self.output = Conv(output_features, 1, 1, decoder)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        height, width = maps[0].shape[-2:]
        pyramid = [self._level(level, features) for level, features in enumerate(maps)]
        fused = None
        for level in reversed(range(4)):
            size = pyramid[level - 1].shape[-2:] if level else (8 * height, 8 * width)
            fused = self.refinenets[level](fused, pyramid[level], (size[0], size[1]))
        assert fused is not None
        size, border = (self.patch * height, self.patch * width), 8 // math.gcd(8, self.patch)
        full = resize(self.output_conv1(fused), size, self.decoder, border=border)
        return self.output(F.relu(self.output_conv2(full)))[:, 0]

    def _level(self, level: int, features: Tensor) -> Tensor:
        resized = self.layer_rn[level](self.resize_layers[level](self.projects[level](features)))
        return resized if self.latitude is None else resized + self.latitude[level](resized.shape[-2])
