"""Panoramas as networks take them: float32 (B, 3, H, W), normalised by ImageNet's mean and standard deviation."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from .area_resize import shrink
from .images import resize_rgb

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def pixel_values(rgbs: Sequence[np.ndarray]) -> Tensor:
    """uint8 images of one size (H, W, 3) to float32 (B, 3, H, W), normalised by ImageNet's mean and std."""
    values = np.empty((len(rgbs), *rgbs[0].shape), np.float32)
    for number, rgb in enumerate(rgbs):
        cv2.LUT(rgb, _PIXEL_VALUES, dst=values[number])
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def pixel_values_on(device: torch.device, rgbs: Sequence[np.ndarray], height: int, width: int) -> Tensor:
    """`pixel_values` of images of any sizes, resized to one, on a device.

    An accelerator gets bytes, makes images smaller and normalises them by itself; the values are those of the CPU.
    """
    if device.type == "cpu":
        return pixel_values([resize_rgb(rgb, height, width) for rgb in rgbs])
    return _from_bytes(device, rgbs, height, width)


def _from_bytes(device: torch.device, rgbs: Sequence[np.ndarray], height: int, width: int) -> Tensor:
    resized = [shrink(torch.from_numpy(_grown(rgb, height, width)).to(device), height, width) for rgb in rgbs]
    return normalise(torch.stack(resized).permute(0, 3, 1, 2) / torch.tensor(255.0, device=device))


def _grown(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image that is too small along an axis, resized; it has few bytes then."""
    return rgb if rgb.shape[0] >= height and rgb.shape[1] >= width else resize_rgb(rgb, height, width)


def normalise(rgb_bchw: Tensor) -> Tensor:
    """RGB in [0, 1], (B, 3, H, W), to pixel values."""
    return (rgb_bchw - _channels(IMAGENET_MEAN, rgb_bchw)) / _channels(IMAGENET_STD, rgb_bchw)


def _channels(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]


_LEVELS = torch.arange(256, dtype=torch.float32)[None, None, :, None].expand(1, 3, 256, 1)
_PIXEL_VALUES = normalise(_LEVELS / 255)[0].permute(1, 2, 0).contiguous().numpy()  # (256, 1, 3), by byte and channel
