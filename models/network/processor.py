"""Panoramas to what a `DapModel` takes and its depth back to their sizes, as Hugging Face's image processors do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.images import check_rgb, resize_rgb
from ..data.pixel_values import pixel_values
from ..geometry.equirectangular import resize
from ..support.torchvision_ops import register_missing_operators
from .config import DapConfig

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoImageProcessor, BatchFeature  # noqa: E402
from transformers.image_processing_utils import BaseImageProcessor  # noqa: E402


class DapImageProcessor(BaseImageProcessor):
    """Resizes panoramas and normalises them by ImageNet's mean and std.

    `size` is {"height", "width"}, or None: each image's own size then, rounded to multiples of `patch_size`.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (a ClassVar by transformers' convention)

    def __init__(self, size: dict[str, int] | None = None, patch_size: int = 16, **kwargs: Any):
        super().__init__(**kwargs)
        self.size = size
        self.patch_size = patch_size

    @classmethod
    def of(cls, config: DapConfig) -> "DapImageProcessor":
        """The processor for a model: to its native size."""
        height, width = config.image_size
        return cls(size={"height": height, "width": width}, patch_size=config.backbone.patch_size)

    def preprocess(self, images: Any, *, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """One panorama or a list of them, PIL images or uint8 (H, W, 3), to `pixel_values` (B, 3, H, W).

        ValueError for what is no image, and for images that come out in different sizes.
        """
        size = kwargs.get("size", self.size)
        given = images if isinstance(images, (list, tuple)) else [images]
        rgbs = [_rgb(image) for image in given]
        resized = [resize_rgb(rgb, *self._target(rgb, size)) for rgb in rgbs]
        if len({rgb.shape for rgb in resized}) != 1:
            raise ValueError(f"a batch wants images of one size, not {sorted({rgb.shape[:2] for rgb in resized})}")
        return BatchFeature({"pixel_values": pixel_values(resized)}, tensor_type=return_tensors)

    def post_process_depth_estimation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[dict[str, Tensor]]:
        """`predicted_depth` and `beyond_range` (H, W) of each image at its target size (height, width).

        Resized around the ±180° seam, whose neighbours the two edges of a panorama are.
        """
        maps = torch.stack([outputs["predicted_depth"], outputs["beyond_range"]], dim=1)
        sizes = [maps.shape[-2:]] * len(maps) if target_sizes is None else target_sizes
        if len(sizes) != len(maps):
            raise ValueError(f"{len(sizes)} target sizes for {len(maps)} predictions")
        resized = [resize(one, *map(int, size))[0] for one, size in zip(maps.split(1), sizes, strict=True)]
        return [{"predicted_depth": depth_m, "beyond_range": beyond} for depth_m, beyond in resized]

    def _target(self, rgb: np.ndarray, size: dict[str, int] | None) -> tuple[int, int]:
        if size is not None:
            return size["height"], size["width"]
        height, width = (max(1, round(side / self.patch_size)) * self.patch_size for side in rgb.shape[:2])
        return height, width

    def to_dict(self) -> dict[str, Any]:
        """With `size`, also where it is None."""
        return {**super().to_dict(), "size": self.size}


def _rgb(image: Any) -> np.ndarray:
    rgb = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    check_rgb(rgb)
    return rgb


AutoImageProcessor.register(DapConfig, image_processor_classes={"pil": DapImageProcessor})
