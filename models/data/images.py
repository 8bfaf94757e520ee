"""Images as arrays: checked, and resized."""

import cv2
import numpy as np


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
