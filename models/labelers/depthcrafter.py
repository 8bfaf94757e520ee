"""DepthCrafter (Hu et al., arXiv 2409.02095) through its authors' code: disparity of a shot's frames, by denoising.

It is up to one scale and one shift for a whole shot. A picture by itself is a shot of one frame.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..data.images import resize_rgb
from ..inference.device import choose_device
from ..support.model_checks import check_numbers

_BASE = "stabilityai/stable-video-diffusion-img2vid-xt"  # whose other parts it uses
_SEEN = 64  # it sees multiples of so many pixels, and at most
_LARGEST = 1024
_STEPS, _GUIDANCE, _WINDOW, _OVERLAP = 5, 1.0, 110, 25  # as its own script has them


class DepthCrafterDepth:
    """A model of a hub id or folder. It sees panoramas as they are; noise is seeded anew for each shot."""

    def __init__(self, model: str, device: str, seed: int = 0) -> None:
        from depthcrafter.depth_crafter_ppl import DepthCrafterPipeline  # pyright: ignore[reportMissingImports] - a user's
        from depthcrafter.unet import (  # pyright: ignore[reportMissingImports]
            DiffusersUNetSpatioTemporalConditionModelDepthCrafter as Unet,
        )

        self._name, self._device, self._seed = f"depthcrafter:{model}", choose_device(device), seed
        kind = torch.float16 if self._device.type == "cuda" else torch.float32
        unet = Unet.from_pretrained(model, torch_dtype=kind)
        self._pipeline = DepthCrafterPipeline.from_pretrained(_BASE, unet=unet, torch_dtype=kind, variant="fp16")
        self._pipeline.to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Disparities (H, W) float32 of pictures (H, W, 3) uint8, each by itself."""
        return [self.shot([rgb])[0] for rgb in rgbs]

    @torch.inference_mode()
    def shot(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Disparities (H, W) float32 of the frames of one shot, (H, W, 3) uint8 of one size, in order."""
        height, width = rgbs[0].shape[:2]
        scale = min(1.0, _LARGEST / max(height, width))
        seen = [max(_SEEN, round(side * scale / _SEEN) * _SEEN) for side in (height, width)]
        frames = np.stack([resize_rgb(rgb, seen[0], seen[1]) for rgb in rgbs]).astype(np.float32) / 255
        found = self._pipeline(
            frames,
            height=seen[0],
            width=seen[1],
            output_type="np",
            guidance_scale=_GUIDANCE,
            num_inference_steps=_STEPS,
            window_size=_WINDOW,
            overlap=_OVERLAP,
            generator=torch.Generator().manual_seed(self._seed),
        ).frames[0]
        disparity = found.mean(axis=-1, dtype=np.float32)
        check_numbers(self._name, disparity)
        return [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in disparity]
