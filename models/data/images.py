"""Panoramas as networks take them."""

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_rgb(rgb: np.ndarray) -> None:
    """ValueError unless it is a uint8 image (H, W, 3) of at least one pixel."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected uint8 images of shape (H, W, 3), not {rgb.dtype} {rgb.shape}")


def resize_rgb(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image (H, W, 3), by area where it shrinks, so that nothing aliases."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = height < rgb.shape[0] or width < rgb.shape[1]
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def pixel_values(rgbs: list[np.ndarray]) -> Tensor:
    """uint8 images of one size (H, W, 3) to float32 (B, 3, H, W), normalised by ImageNet's mean and std."""
    return normalise(torch.from_numpy(np.stack(rgbs)).permute(0, 3, 1, 2).float() / 255)


def normalise(rgb_bchw: Tensor) -> Tensor:
    """RGB in [0, 1], (B, 3, H, W), to pixel values."""
    return (rgb_bchw - _channels(IMAGENET_MEAN, rgb_bchw)) / _channels(IMAGENET_STD, rgb_bchw)


def _channels(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]
