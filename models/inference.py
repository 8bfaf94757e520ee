"""Networks behind plain functions: images in, metres or scores out, whatever the network's own size and device."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from models.dap import DapModel
from models.discriminator import Discriminator
from models.erp import resize
from models.images import pixel_values, resize_rgb


def choose_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@dataclass(frozen=True)
class Prediction:
    """Of one panorama, at its size: ray distance (H, W) in metres, and the probability of being beyond the range."""

    depth_m: np.ndarray
    beyond_range: np.ndarray

    def masked_depth_m(self, threshold: float = 0.5) -> np.ndarray:
        """Distances (H, W) with inf where the range is more probably exceeded than not, as the depth PNG takes them."""
        return np.where(self.beyond_range > threshold, np.float32(np.inf), self.depth_m)


class DepthPredictor:
    """Predicts depth with the model of `folder`, on `device` ("auto": CUDA where there is one)."""

    def __init__(self, folder: str | Path, device: str = "auto", *, batch_size: int = 8):
        self.device = choose_device(device)
        self.batch_size = batch_size
        self.model = DapModel.from_folder(folder, self.device)

    def predict(self, rgbs: list[np.ndarray]) -> list[Prediction]:
        """Predicts panoramas (H, W, 3) uint8 of any sizes, in order.

        A panorama's prediction does not depend on what stands beside it in the list, but for rounding.
        """
        for rgb in rgbs:
            if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
                raise ValueError(f"expected uint8 images of shape (H, W, 3), not {rgb.dtype} {rgb.shape}")
        starts = range(0, len(rgbs), self.batch_size)
        return [prediction for start in starts for prediction in self._predict(rgbs[start : start + self.batch_size])]

    @torch.inference_mode()
    def _predict(self, rgbs: list[np.ndarray]) -> list[Prediction]:
        height, width = self.model.config.image_size
        pixels = pixel_values([resize_rgb(rgb, height, width) for rgb in rgbs]).to(self.device)
        with torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext():
            output = self.model(pixels)
        maps = torch.stack([output.predicted_depth, output.beyond_range], dim=1).split(1)
        resized = (resize(map_bchw, rgb.shape[0], rgb.shape[1])[0] for map_bchw, rgb in zip(maps, rgbs, strict=True))
        return [Prediction(*map_chw.cpu().numpy()) for map_chw in resized]


class QualityScorer:
    """Scores labels with the discriminator of `folder`: the higher, the more they look like ground truth."""

    def __init__(self, folder: str | Path, device: str = "auto", *, batch_size: int = 16):
        self.device = choose_device(device)
        self.batch_size = batch_size
        self.model = Discriminator.from_folder(folder, self.device)

    def score(self, rgbs: list[np.ndarray], depths_m: list[np.ndarray]) -> list[float]:
        """Scores in (0, 1) of panoramas (H, W, 3) uint8 with distances (H, W): inf beyond range, nan or 0 missing."""
        if len(rgbs) != len(depths_m):
            raise ValueError(f"{len(rgbs)} images but {len(depths_m)} depth maps")
        parts = (slice(start, start + self.batch_size) for start in range(0, len(rgbs), self.batch_size))
        return [score for part in parts for score in self._score(rgbs[part], depths_m[part])]

    @torch.inference_mode()
    def _score(self, rgbs: list[np.ndarray], depths_m: list[np.ndarray]) -> list[float]:
        height, width = self.model.config.image_size
        pixels = pixel_values([resize_rgb(rgb, height, width) for rgb in rgbs]).to(self.device)
        nearest = [cv2.resize(d, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for d in depths_m]
        return self.model.score(pixels, torch.from_numpy(np.stack(nearest)).to(self.device)).tolist()
