"""UniK3D (Piccinelli et al., arXiv 2503.16591) through its package: metric ray distance of any camera, a sphere too."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..inference.device import choose_device, in_precision
from ..support.model_checks import check_numbers

_RESOLUTION_LEVEL = 9  # the finest of its ten


class Unik3dDepth:
    """A model of a hub id or folder. It sees the panorama as it is, and is told that it is a whole sphere."""

    def __init__(self, model: str, device: str) -> None:
        from unik3d.models import UniK3D  # pyright: ignore[reportMissingImports] - where a user has installed it
        from unik3d.utils.camera import Spherical  # pyright: ignore[reportMissingImports]

        self._name, self._camera, self._device = f"unik3d:{model}", Spherical, choose_device(device)
        self._model = UniK3D.from_pretrained(model).to(self._device).eval()
        self._model.resolution_level, self._model.interpolation_mode = _RESOLUTION_LEVEL, "bilinear"

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Ray distances (H, W) float32 in metres of panoramas (H, W, 3) uint8."""
        return [self._one(rgb) for rgb in rgbs]

    @torch.inference_mode()
    def _one(self, rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        # four numbers that a sphere does not use, the size, and half of both fields of view; a call changes its camera
        camera = self._camera(params=torch.tensor([1.0] * 4 + [width, height, math.pi, math.pi / 2]))
        pixels = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).to(self._device)
        with in_precision("float32", self._device):
            found = self._model.infer(pixels, camera=camera, normalize=True)
        distance_m = found["distance"].reshape(height, width).float().cpu().numpy()
        check_numbers(self._name, distance_m)
        return distance_m
