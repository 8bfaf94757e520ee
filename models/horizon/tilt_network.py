"""A small network that finds the up vector of a panorama, and tells whole panoramas from other pictures.

Every column of the panorama gives evidence about the up vector in its own frame (ahead, to the left, up); turned into
the camera's frame the evidence adds up, so that the answer turns with the panorama. The sum is the natural parameter of
a von Mises-Fisher distribution (Mardia & Jupp, Directional Statistics, 9.3.2): its direction is the estimate, its
length κ tells how sure it is.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

VIEW_HEIGHT = 96  # of the panorama that the input is made from
HEIGHT, WIDTH = 48, 96  # of the input
KINDS = ("whole", "partial", "perspective")

_CHANNELS = (24, 48, 96)
_COLUMN_CHANNELS = 192
_EVIDENCE_SCALE = 10.0  # so that weights of usual size give κ of usual size
_WEIGHTS = "model.safetensors"


def network_input(rgb: np.ndarray) -> np.ndarray:
    """Features (6, HEIGHT, WIDTH) float32 of RGB (VIEW_HEIGHT, 2·VIEW_HEIGHT, 3), uint8 or float32 in [0, 1].

    The colours, without brightness and contrast, and the structure tensor of the finer view as double-angle orientation
    and strength (Bigün & Granlund 1987): so thin edges keep their direction where pixels would blur them.
    """
    fine = rgb.astype(np.float32) / 255 if rgb.dtype == np.uint8 else rgb
    coarse = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    coarse = (coarse - coarse.mean()) / (coarse.std() + 0.02)
    return np.concatenate([coarse, _orientation(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY))], axis=2).transpose(2, 0, 1)


def _orientation(gray: np.ndarray) -> np.ndarray:
    wide = cv2.copyMakeBorder(gray, 0, 0, 1, 1, cv2.BORDER_WRAP)
    tall = cv2.copyMakeBorder(wide, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
    across, down = tall[1:-1, 2:] - tall[1:-1, :-2], tall[2:, 1:-1] - tall[:-2, 1:-1]
    energy, squares = across * across + down * down, across * across - down * down
    tensor = cv2.merge([squares, 2 * across * down, energy])
    tensor = cv2.resize(tensor, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    strength = np.sqrt(tensor[..., 2:]) + 1e-3
    return np.concatenate([tensor[..., :2] / strength, strength], axis=2) / (strength.mean() + 0.01)


def _wrapped(maps: Tensor) -> Tensor:
    """A column more at either side, from the other; a fifth of the time of circular padding."""
    return torch.cat([maps[..., -1:], maps, maps[..., :1]], dim=-1)


class WrappedConv(nn.Module):
    """3×3 convolution and batch norm, wrapped around the seam, zeros beyond the poles."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=(1, 0), bias=False)
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(self.conv(_wrapped(maps)))


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = WrappedConv(channels, channels), WrappedConv(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.second(F.relu(self.first(maps))))


class TiltNetwork(nn.Module):
    """Features (B, 6, 48, 96) to evidence (B, 3), κ times the up vector in the camera's frame, and logits of KINDS."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _CHANNELS
        self.features = nn.Sequential(
            *(WrappedConv(8, first, stride=2), nn.ReLU()),
            *(WrappedConv(first, second, stride=2), nn.ReLU(), Residual(second)),
            *(WrappedConv(second, third, stride=2), nn.ReLU(), Residual(third)),
        )
        self.columns = nn.Conv2d(third, _COLUMN_CHANNELS, (HEIGHT // 8, 3), bias=False)
        self.columns_norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(_COLUMN_CHANNELS)
        self.position: Tensor
        self.turns: Tensor
        self.dropout = nn.Dropout(0.2)
        self.evidence = nn.Conv1d(_COLUMN_CHANNELS, 3, 1)
        self.kind = nn.Linear(2 * _COLUMN_CHANNELS, len(KINDS))
        self.register_buffer("position", _position(), persistent=False)
        self.register_buffer("turns", _turns(WIDTH // 8), persistent=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        position = self.position.expand(len(inputs), -1, -1, -1)
        maps = _wrapped(self.features(torch.cat([inputs, position], dim=1)))
        columns = F.relu(self.columns_norm(self.columns(maps)))[:, :, 0]
        evidence = torch.einsum("bjn,nij->bi", self.evidence(self.dropout(columns)).float(), self.turns)
        summary = torch.cat([columns.mean(dim=-1), columns.amax(dim=-1)], dim=1)
        return _EVIDENCE_SCALE * evidence / WIDTH * 8, self.kind(self.dropout(summary)).float()

    def save(self, folder: Path) -> None:
        """Writes `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / _WEIGHTS)

    def ready(self) -> TiltNetwork:
        """Itself, for use alone: batch norms folded into the convolutions, channels last; half as fast again."""
        for module in self.modules():
            if isinstance(module, WrappedConv) and isinstance(module.norm, nn.BatchNorm2d):
                module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
        if isinstance(self.columns_norm, nn.BatchNorm2d):
            self.columns, self.columns_norm = fuse_conv_bn_eval(self.columns, self.columns_norm), nn.Identity()
        return self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    def load(cls, folder: Path) -> TiltNetwork:
        """The network of a folder, ready to use; raises ValueError where the weights are missing or do not fit."""
        network = cls()
        try:
            network.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{folder}: no weights of a tilt network") from error
        return network.eval()


def _position() -> Tensor:
    """What the network cannot see by itself, (1, 2, H, W): the latitude, and where the picture's borders are."""
    latitude = torch.linspace(1, -1, HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    border = torch.zeros(HEIGHT, WIDTH)
    border[:, [0, -1]] = 1
    return torch.stack([latitude, border])[None]


def _turns(count: int) -> Tensor:
    """Rotations (n, 3, 3) from the frames of columns to the camera's."""
    theta = math.pi - 2 * math.pi * (torch.arange(count) + 0.5) / count
    zero, one = torch.zeros(count), torch.ones(count)
    rows = [theta.cos(), -theta.sin(), zero, theta.sin(), theta.cos(), zero, zero, zero, one]
    return torch.stack(rows, dim=-1).reshape(count, 3, 3)
