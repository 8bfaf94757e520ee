"""MoGe-2 (Wang et al., arXiv 2507.02546) through its package: metric depth of perspective pictures, with a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..inference.device import choose_device, in_precision


class MogeDepth:
    """A model of a hub id, a checkpoint, or a folder with its `model.pt`, for square views of a known field of view."""

    def __init__(self, model: str, device: str, batch_size: int, fov_deg: float) -> None:
        from moge.model.v2 import MoGeModel  # pyright: ignore[reportMissingImports] - where a user has installed it

        self._device, self._batch_size, self._fov_deg = choose_device(device), batch_size, fov_deg
        self._model = MoGeModel.from_pretrained(str(Path(model) / "model.pt") if Path(model).is_dir() else model)
        if not hasattr(self._model, "scale_head"):
            raise ValueError("has no metric scale: it is no MoGe-2")
        self._model.to(self._device).eval()

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Depth along the axis (H, W) float32 in metres of views (H, W, 3) uint8 of one size; inf outside its mask."""
        batches = (rgbs[start : start + self._batch_size] for start in range(0, len(rgbs), self._batch_size))
        return [depth_m for batch in batches for depth_m in self._batch(batch)]

    @torch.inference_mode()
    def _batch(self, rgbs: list[np.ndarray]) -> np.ndarray:
        pixels = torch.from_numpy(np.stack(rgbs)).to(self._device).permute(0, 3, 1, 2) / 255
        with in_precision("float32", self._device):
            found = self._model.infer(pixels, fov_x=self._fov_deg, apply_mask=True, use_fp16=False)
        return found["depth"].float().cpu().numpy()
