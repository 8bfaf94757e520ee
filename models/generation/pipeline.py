"""Panoramas from text by any text-to-image pipeline of diffusers, with LoRA weights if given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn

from ..inference.device import choose_device
from ..support.model_checks import check_numbers
from ..support.torchvision_ops import register_missing_operators
from .wrap import Wrap, WrapAround, wrap_convolutions

register_missing_operators()  # before diffusers, which imports torchvision where it is installed

INSTALL = "needs diffusers: install dap-engine[generate]"


class PanoramaGenerator:
    """A pipeline of a folder or hub id, such as FLUX.1 with the LoRA weights of DiT360, in bfloat16 on a card."""

    def __init__(self, model: str, lora: str | None = None, *, device: str = "auto", wrap: Wrap = "auto") -> None:
        """Loads and wraps a pipeline.

        Raises:
            ValueError: in one line, the pipeline or its LoRA weights cannot be loaded.
            TypeError: its network cannot be wrapped around so.
        """
        try:
            from diffusers import DiffusionPipeline  # pyright: ignore - an extra, which exports by name lazily
        except ImportError as error:
            raise ValueError(f"{model}: {INSTALL}") from error
        self._model, chosen = model, choose_device(device)
        dtype = torch.bfloat16 if chosen.type == "cuda" else torch.float32
        try:
            pipeline: Any = DiffusionPipeline.from_pretrained(model, use_safetensors=True, dtype=dtype)
            if lora:
                _load_lora(pipeline, lora)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError, ImportError) as error:
            raise ValueError(f"{model}{f' with {lora}' if lora else ''}: {_one_line(error)}") from error
        self._pipeline = pipeline.to(chosen)
        self._pipeline.set_progress_bar_config(disable=True)
        denoiser = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
        if denoiser is None:
            raise ValueError(f"{model}: {type(pipeline).__name__} has neither a transformer nor a unet to wrap around")
        self._wrapped = WrapAround(denoiser, wrap)
        wrap_convolutions(pipeline.vae)

    def generate(
        self, prompts: list[str], seeds: list[int], *, height: int, steps: int, guidance: float
    ) -> list[np.ndarray]:
        """Panoramas uint8 RGB (height, 2 * height, 3), one a prompt; the noise of each is drawn by its seed."""
        self._wrapped.begin()
        found = self._pipeline(
            prompt=prompts,
            height=height,
            width=2 * height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        check_numbers(self._model, found)
        return [(255 * one).round().clip(0, 255).astype(np.uint8) for one in found]


def _load_lora(pipeline: Any, lora: str) -> None:
    """LoRA weights of a hub id, or of a folder or file here; ValueError unless all of them fit the pipeline."""
    path = Path(lora) if Path(lora).exists() else Path(snapshot_download(lora, allow_patterns=["*.safetensors"]))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"{len(files)} files of LoRA weights are there, where one is wanted: name the file")
    pipeline.load_lora_weights(str(files[0].parent), weight_name=files[0].name, use_safetensors=True)
    with safe_open(files[0], "pt") as held:
        given = sum("lora" in name and not name.endswith("alpha") for name in held.keys())  # noqa: SIM118 - no mapping
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    taken = sum("lora_" in name for part in parts for name, _ in part.named_parameters())
    if not 0 < given <= taken:
        raise ValueError(f"{taken} of the {given} LoRA weights fit the pipeline")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
