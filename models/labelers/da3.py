"""Depth Anything 3 (Lin et al., arXiv 2511.10647) through its package, a view at a time.

What a model gives depends on its kind, which `model_name` of its config.json tells:

    da3nested-*     metres
    da3metric-*     depth for a focal length of 300 pixels: times focal / 300 it is metres
    any other       depth up to scale
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from .outputs import METRIC, Output

_FOCAL = 300.0  # pixels, of its canonical camera


def output_of(model: str) -> Output:
    """What a model of a folder or hub id gives; ValueError in one line if that cannot be read."""
    return METRIC if _kind(model) in ("da3nested", "da3metric") else "relative-depth"


def _kind(model: str) -> str:
    from huggingface_hub import hf_hub_download

    try:
        place = Path(model, "config.json") if Path(model).is_dir() else Path(hf_hub_download(model, "config.json"))
        return str(json.loads(place.read_bytes())["model_name"]).split("-")[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"da3:{model}: its config.json with its model_name cannot be read: {text}") from error


class Da3Depth:
    """A model of a hub id or folder, for square views of a known field of view.

    Views are predicted one by one, as several at once would be taken for pictures from several places. The package
    samples pixels at random for some of its statistics: the generator is seeded for each view.
    """

    def __init__(self, model: str, device: str, fov_deg: float) -> None:
        from depth_anything_3.api import DepthAnything3  # pyright: ignore[reportMissingImports] - a user's

        from ..inference.device import choose_device

        self._device, self._half_width = choose_device(device), math.tan(math.radians(fov_deg) / 2)
        self._kind = _kind(model)
        self._model = DepthAnything3.from_pretrained(model).to(self._device).eval()

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Depth along the axis (h, w) float32 of views (H, W, 3) uint8, of the size that it sees; inf in the sky."""
        return [self._one(rgb) for rgb in rgbs]

    def _one(self, rgb: np.ndarray) -> np.ndarray:
        import torch

        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            found = self._model.inference([rgb])
        depth = np.asarray(found.depth[0], np.float32)
        if self._kind == "da3metric":
            depth = depth * np.float32(depth.shape[1] / 2 / self._half_width / _FOCAL)
        if self._kind in ("da3metric", "da3nested") and found.sky is not None:
            depth = np.where(found.sky[0], np.float32(np.inf), depth)
        return depth
