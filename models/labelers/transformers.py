"""Depth-estimation models of transformers, with their own processors: pixels in, a map of the picture's size out."""

from __future__ import annotations

import inspect
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from PIL import Image

from ..inference.device import choose_device, in_precision
from ..support.model_checks import check_numbers, check_weights
from ..support.torchvision_ops import register_missing_operators
from .outputs import METRIC, Output, OutputSetting, check_output

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation  # noqa: E402

from ..network.dap import DapConfig  # noqa: E402 - which makes it known to AutoConfig

_OUTPUTS: dict[str, Output] = {
    "dpt": "relative-disparity",  # as MiDaS trained it; what was finetuned to metres needs `output`
    "zoedepth": "metric-depth",
    "depth_pro": "metric-depth",
    "glpn": "metric-depth",
}
_BY_CONFIG: dict[str, Output] = {"relative": "relative-disparity", "metric": "metric-depth"}


def our_folder(model: str) -> str | None:
    """The folder of one of our models, fetched if it is on the hub; None if the model is not ours."""
    if not isinstance(_config(model), DapConfig):
        return None
    return model if Path(model).is_dir() else snapshot_download(model, allow_patterns=["*.json", "*.safetensors"])


def output_of(model: str, wanted: OutputSetting = "auto") -> Output:
    """What a model gives: `wanted`, or what its configuration tells; ValueError in one line if neither does."""
    config = _config(model)
    ours = isinstance(config, DapConfig)
    if not ours and type(config) not in AutoModelForDepthEstimation._model_mapping:
        raise ValueError(f"hf:{model} is a {config.model_type!r}, and no depth-estimation model of transformers")
    if Path(model).is_dir():
        check_weights(Path(model))
    if ours:
        return check_output(f"hf:{model}", METRIC, wanted)
    if wanted != "auto":
        return wanted
    by_config = _BY_CONFIG.get(getattr(config, "depth_estimation_type", ""))
    known = by_config or _OUTPUTS.get(config.model_type)
    if known is None:
        raise ValueError(f"hf:{model} ({config.model_type}) does not say what it gives: set its output")
    return known


def _config(model: str) -> Any:
    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"hf:{model}: {' '.join(str(error).split())[:300]}") from error


class TransformersDepth:
    """A model of a hub id or folder; weights are safetensors, and must be whole."""

    def __init__(self, model: str, device: str, batch_size: int, output: OutputSetting = "auto") -> None:
        self.output: Output = output_of(model, output)
        self._name, self._batch_size = model, batch_size
        self._device = choose_device(device)
        try:
            self._processor: Any = AutoImageProcessor.from_pretrained(model, backend="pil")  # not every one has it
        except ImportError as error:
            raise ValueError(f"hf:{model}: its processor needs torchvision: install dap-engine[vlm]") from error
        network, info = AutoModelForDepthEstimation.from_pretrained(
            model, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
        if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
            raise ValueError(f"hf:{model}: {len(lacking)} weights are missing or do not fit: {', '.join(lacking[:3])}")
        self._model = network.eval().to(self._device)

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Maps (H, W) float32 of images (H, W, 3) uint8; neighbours of one size go through the network together."""
        maps: list[np.ndarray] = []
        for _, group in groupby(rgbs, key=lambda rgb: rgb.shape):
            alike = list(group)
            for start in range(0, len(alike), self._batch_size):
                maps += self._batch(alike[start : start + self._batch_size])
        return maps

    @torch.inference_mode()
    def _batch(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        images = [Image.fromarray(rgb) for rgb in rgbs]
        inputs = self._processor(images=images, return_tensors="pt").to(self._device)
        restore = self._processor.post_process_depth_estimation
        sizes = [rgb.shape[:2] for rgb in rgbs]
        source = {"source_sizes": sizes} if "source_sizes" in inspect.signature(restore).parameters else {}
        with in_precision("float32", self._device):
            found = restore(self._model(**inputs), target_sizes=sizes, **source)
        maps = [
            item["predicted_depth"].float().reshape(size).cpu().numpy() for item, size in zip(found, sizes, strict=True)
        ]
        for values in maps:
            check_numbers(f"hf:{self._name}", values)
        return maps
