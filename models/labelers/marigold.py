"""Marigold (Ke et al., arXiv 2312.02145) through diffusers: depth up to scale and shift, by denoising."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..inference.device import choose_device, in_precision
from ..support.model_checks import check_numbers
from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before diffusers, which imports torchvision where it is installed


class MarigoldDepth:
    """A Marigold depth pipeline of a hub id or folder; noise is seeded anew for each picture."""

    def __init__(self, model: str, device: str, seed: int = 0) -> None:
        try:
            from diffusers import MarigoldDepthPipeline  # pyright: ignore - an extra, which exports by name lazily
        except ImportError as error:
            raise ValueError(f"diffusers:{model} needs diffusers: install dap-engine[generate]") from error
        self._device = choose_device(device)
        self._model, self._seed = model, seed
        self._pipeline: Any = MarigoldDepthPipeline.from_pretrained(
            model, use_safetensors=True, torch_dtype=torch.float32
        )
        self._pipeline.to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Maps (H, W) float32 of images (H, W, 3) uint8: 0 near, 1 far."""
        return [self._one(rgb) for rgb in rgbs]

    def _one(self, rgb: np.ndarray) -> np.ndarray:
        picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        generator = torch.Generator().manual_seed(self._seed)
        with in_precision("float32", self._device):
            found = self._pipeline(picture, generator=generator, output_type="np")
        check_numbers(f"diffusers:{self._model}", found.prediction)
        return found.prediction[0, ..., 0].astype(np.float32)
