"""Networks behind plain functions: images in, metres or scores out, whatever the network's own size and device."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..data.images import check_rgb
from ..data.pixel_values import pixel_values_on
from ..geometry.equirectangular import resize, roll_yaw
from ..network.dap import DapModel
from ..network.discriminator import Discriminator
from ..support.model_checks import check_numbers
from .device import choose_device, in_precision, to_host
from .precision import Precision, choose_precision


@dataclass(frozen=True)
class Prediction:
    """Of one panorama, at its size: ray distance (H, W) in metres, and the probability of being beyond the threshold.

    The latter is 0 for models without a range mask. `masks`: whether its threshold is the range of the distances, or
    else a nearer one, such as 10 m.
    """

    depth_m: np.ndarray
    beyond_range: np.ndarray
    masks: bool = True

    def masked_depth_m(self, threshold: float = 0.5, *, nearer: bool = False) -> np.ndarray:
        """Distances (H, W) with inf where the range is more probably exceeded than not, as the depth PNG takes them.

        A mask of a nearer threshold is applied with `nearer` alone: beyond it there is no distance, nan.
        """
        if not (self.masks or nearer):
            return self.depth_m
        return np.where(self.beyond_range > threshold, np.float32(np.inf if self.masks else np.nan), self.depth_m)


class DepthPredictor:
    """Predicts depth with the model of `folder`, on `device` ("auto": CUDA where there is one).

    `yaw_turns` N > 1 predicts each panorama N times, turned by multiples of 360°/N, and takes the mean: of ln distance,
    in which errors are alike near and far, and of the probability of being beyond the range. It costs N times as much.
    `precision` "auto" is bfloat16 on CUDA and float32 elsewhere. `height` is that at which the network sees panoramas,
    a multiple of its patch, by default its own; predictions are resized back to each panorama's size.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        *,
        batch_size: int = 8,
        yaw_turns: int = 1,
        precision: Precision = "auto",
        height: int | None = None,
    ):
        if yaw_turns < 1:
            raise ValueError(f"yaw_turns must be at least 1, not {yaw_turns}")
        self.device = choose_device(device)
        self.batch_size = batch_size
        self.yaw_turns = yaw_turns
        self.precision: Precision = choose_precision(precision, self.device.type)
        self.name = str(folder)
        self.model = DapModel.from_folder(folder, self.device)
        self.height = self.model.config.image_size[0] if height is None else height
        patch = self.model.config.backbone.patch_size
        if self.height < patch or self.height % patch:
            raise ValueError(f"a height of {height} is no multiple of the model's patch, {patch}")

    def predict(self, rgbs: list[np.ndarray]) -> list[Prediction]:
        """Predicts panoramas (H, W, 3) uint8 of any sizes, in order.

        A panorama's prediction does not depend on what stands beside it in the list, but for rounding. Raises
        ModelOutputError where the network gives no numbers.
        """
        for rgb in rgbs:
            check_rgb(rgb)
        starts = range(0, len(rgbs), self.batch_size)
        return [prediction for start in starts for prediction in self._predict(rgbs[start : start + self.batch_size])]

    @torch.inference_mode()
    def _predict(self, rgbs: list[np.ndarray]) -> list[Prediction]:
        pixels = pixel_values_on(self.device, rgbs, self.height, 2 * self.height)
        maps = self._mean_over_turns(pixels).split(1)
        resized = (resize(map_bchw, rgb.shape[0], rgb.shape[1])[0] for map_bchw, rgb in zip(maps, rgbs, strict=True))
        masks = self.model.config.masks_the_range
        return [Prediction(*to_host(map_chw), masks=masks) for map_chw in resized]

    def _mean_over_turns(self, pixels: Tensor) -> Tensor:
        """Distances and probabilities, (B, 2, H, W)."""
        if self.yaw_turns == 1:
            return self._maps(pixels)
        total = torch.zeros((), device=self.device)
        for turn in range(self.yaw_turns):
            columns = pixels.shape[-1] * turn // self.yaw_turns
            depth_m, beyond = self._maps(roll_yaw(pixels, columns)).unbind(1)
            total = total + roll_yaw(torch.stack([depth_m.log(), beyond], dim=1), -columns)
        log_depth, beyond = (total / self.yaw_turns).unbind(1)
        return torch.stack([log_depth.exp(), beyond], dim=1)

    def _maps(self, pixels: Tensor) -> Tensor:
        with in_precision(self.precision, self.device):
            output = self.model(pixels)
        maps = torch.stack([output.predicted_depth, output.beyond_range], dim=1)
        check_numbers(self.name, maps.sum().item())  # one that is no number makes the sum none
        return maps


class QualityScorer:
    """Scores labels with the discriminator or critic of `folder`, which its `judges` tells: the higher, the better."""

    def __init__(self, folder: str | Path, device: str = "auto", *, batch_size: int = 16):
        self.device = choose_device(device)
        self.batch_size = batch_size
        self.name = str(folder)
        self.model = Discriminator.from_folder(folder, self.device)
        self.judges = self.model.config.judges

    def score(self, rgbs: list[np.ndarray], labels_m: list[np.ndarray]) -> list[float]:
        """Scores in (0, 1) of panoramas (H, W, 3) uint8 with distances (H, W): inf beyond range, nan or 0 missing."""
        if len(rgbs) != len(labels_m):
            raise ValueError(f"{len(rgbs)} images but {len(labels_m)} depth maps")
        parts = (slice(start, start + self.batch_size) for start in range(0, len(rgbs), self.batch_size))
        return [score for part in parts for score in self._score(rgbs[part], labels_m[part])]

    @torch.inference_mode()
    def _score(self, rgbs: list[np.ndarray], labels_m: list[np.ndarray]) -> list[float]:
        height, width = self.model.config.image_size
        pixels = pixel_values_on(self.device, rgbs, height, width)
        nearest = [cv2.resize(d, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for d in labels_m]
        scores = self.model.score(pixels, torch.from_numpy(np.stack(nearest)).to(self.device)).tolist()
        check_numbers(self.name, np.array(scores))
        return scores
