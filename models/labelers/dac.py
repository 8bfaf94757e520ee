"""Depth Any Camera (Guo et al., arXiv 2501.02464) through its package: metric ray distance of panoramas.

Its networks know distances at a canonical size of the panorama. At another height h, theirs are to be multiplied by
h / c, where c is the canonical height (`cano_sz` of its configuration).
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import torch

from ..data.pixel_values import pixel_values_on
from ..inference.device import choose_device, in_precision
from ..network.layout import read_weights
from ..support.model_checks import check_numbers

_HEIGHT = 512  # of what its networks see, as its evaluation on panoramas has it
_CLASSES = {"IDiscERP": "idisc_erp", "IDisc": "idisc", "IDiscEqui": "idisc_equi", "CNNDepth": "cnn_depth"}


def checkpoint_in(folder: str) -> Path:
    """The only NAME.pt of a folder, which must have NAME.json beside it; ValueError otherwise."""
    found = sorted(Path(folder).glob("*.pt"))
    if len(found) != 1 or not found[0].with_suffix(".json").is_file():
        raise ValueError(f"dac:{folder}: must hold one NAME.pt, and the NAME.json that its authors publish with it")
    return found[0]


class DacDepth:
    """A model of a folder. It sees the panorama as it is."""

    def __init__(self, folder: str, device: str) -> None:
        checkpoint = checkpoint_in(folder)
        config = json.loads(checkpoint.with_suffix(".json").read_text())
        kind = config["model_name"]
        if kind not in _CLASSES:
            raise ValueError(f"its model_name is {kind!r}, which is none of {sorted(_CLASSES)}")
        config["model"]["pixel_encoder"].pop("pretrained", None)  # all weights are in the checkpoint
        self._name, self._device = f"dac:{folder}", choose_device(device)
        self._scale, self._is_erp = _HEIGHT / config["cano_sz"][0], kind == "IDiscERP"
        self._model = getattr(import_module(f"dac.models.{_CLASSES[kind]}"), kind).build(config)
        self._model.load_state_dict(read_weights(checkpoint))
        self._model.to(self._device).eval()

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Ray distances (H, W) float32 in metres of panoramas (H, W, 3) uint8."""
        return [self._one(rgb) for rgb in rgbs]

    @torch.inference_mode()
    def _one(self, rgb: np.ndarray) -> np.ndarray:
        pixels = pixel_values_on(self._device, [rgb], _HEIGHT, 2 * _HEIGHT)
        latitudes = torch.tensor([[-math.pi / 2, math.pi / 2]], device=self._device)
        ranges = (latitudes, 2 * latitudes) if self._is_erp else ()
        with in_precision("float32", self._device):
            found, *_ = self._model(pixels, *ranges)
        distance_m = found[0, 0].float().cpu().numpy() * np.float32(self._scale)
        check_numbers(self._name, distance_m)
        return cv2.resize(distance_m, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
