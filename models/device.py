"""Where networks run, and in what precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """ "auto" is bfloat16 on CUDA and float32 elsewhere."""
    return ("bfloat16" if device.type == "cuda" else "float32") if precision == "auto" else precision


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Inside, networks of float32 weights compute in the precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
