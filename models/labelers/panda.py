"""PanDA (Cao et al., arXiv 2406.13378) through its authors' code: Depth Anything V2 made a model of panoramas.

Its three published models give depth from 0 to 1, up to scale and shift. Those fine-tuned on Matterport3D or
Stanford2D3D give metres, up to 10: `output: metric-depth` says that a file is one of them.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..data.pixel_values import pixel_values_on
from ..inference.device import choose_device, in_precision
from ..support.model_checks import check_numbers

_HEIGHT = 504  # of what it sees, 36 patches of 14 pixels, as its inference has it
_METRIC_RANGE_M = 10.0
_BACKBONES = {384: "vits", 768: "vitb", 1024: "vitl"}


class PandaDepth:
    """A model of a checkpoint file. It sees the panorama as it is."""

    def __init__(self, file: str, device: str, *, metric: bool) -> None:
        from networks.models import make  # pyright: ignore[reportMissingImports] - where a user has installed it

        state = torch.load(file, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): values for name, values in state.items() if torch.is_tensor(values)}
        settings = {
            "midas_model_type": _BACKBONES[state["core.pretrained.cls_token"].shape[-1]],
            "fine_tune_type": "inference",
            "min_depth": 0.01,
            "max_depth": _METRIC_RANGE_M if metric else 1.0,
            "lora": True,
            "train_decoder": True,
            "lora_rank": 4,
        }
        self._name, self._device = f"panda:{file}", choose_device(device)
        self._model = make({"name": "panda", "args": settings})
        self._model.load_state_dict(state)
        self._model.to(self._device).eval()

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Depth (H, W) float32 of panoramas (H, W, 3) uint8."""
        return [self._one(rgb) for rgb in rgbs]

    @torch.inference_mode()
    def _one(self, rgb: np.ndarray) -> np.ndarray:
        pixels = pixel_values_on(self._device, [rgb], _HEIGHT, 2 * _HEIGHT)
        with in_precision("float32", self._device):
            found = self._model(pixels)["pred_depth"]
        depth = found[0, 0].float().cpu().numpy()
        check_numbers(self._name, depth)
        return cv2.resize(depth, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
