"""Pictures for people as PNG."""

import io

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def encode_png(rgb: np.ndarray) -> bytes:
    """The bytes of a PNG of uint8 RGB (H, W, 3)."""
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot write a picture of shape {rgb.shape} as PNG")
    return data.tobytes()


def figure_png(figure: Figure) -> bytes:
    """The bytes of a PNG of a figure, which is closed. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
