"""Pictures for people as PNG."""

import cv2
import numpy as np


def encode_png(rgb: np.ndarray) -> bytes:
    """The bytes of a PNG of uint8 RGB (H, W, 3)."""
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot write a picture of shape {rgb.shape} as PNG")
    return data.tobytes()
