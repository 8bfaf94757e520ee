"""What the Hugging Face models here share: seeded creation, and strict loading with one clear line for an error."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from torch import nn

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import PreTrainedConfig, PreTrainedModel  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

from ..support.model_checks import check_model_folder  # noqa: E402
from .layout import shortened  # noqa: E402

transformers_logging.disable_progress_bar()  # a bar for every file of weights would stand between those of stages


class StrictPreTrainedModel(PreTrainedModel):
    """A PreTrainedModel whose weights must fit: a missing, unexpected or misshapen key is a ValueError."""

    @classmethod
    def new(cls, config: PreTrainedConfig, seed: int = 0) -> Self:
        """A model with fresh weights that depend on the seed alone; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes config.json and model.safetensors; OSError where the disk does not take them."""
        try:
            super().save_pretrained(save_directory, **kwargs)
        except SafetensorError as error:
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(save_directory)) from error

    @classmethod
    def skeleton(cls, config: PreTrainedConfig) -> Self:
        """A model without weights, on the meta device: names and shapes."""
        with torch.device("meta"):
            return cls(config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Loads a folder or hub id of safetensors, strictly; nothing is ever unpickled."""
        kwargs |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = cast(
            tuple[Self, dict[str, Any]], super().from_pretrained(str(pretrained_model_name_or_path), *args, **kwargs)
        )
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if keys := sorted(map(str, info[problem])):
                what = problem.replace("_", " ")
                whose = f"{len(keys)} {what} for {cls.__name__}"
                raise ValueError(f"{pretrained_model_name_or_path}: {whose}: {shortened(keys)}")
        return model

    @classmethod
    def from_folder(cls, folder: str | Path, device: torch.device | str = "cpu") -> Self:
        """Loads a local folder for inference on `device`; ValueError in one line if it is no folder of this model."""
        folder = Path(folder)
        check_model_folder(folder)
        model_type = json.loads((folder / "config.json").read_bytes()).get("model_type")
        expected = cls.config_class.model_type if cls.config_class else None
        if model_type != expected:
            raise ValueError(f"{folder} holds a model of type {model_type!r}, not {expected!r}")
        model = cls.from_pretrained(folder, local_files_only=True).eval()
        nn.Module.to(model, device)  # in place
        return model
