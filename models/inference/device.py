"""Where networks run, and in what precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .precision import Precision


def choose_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextmanager
def in_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside, networks of float32 weights compute in the precision.

    float32 is whole: PyTorch lets convolutions on CUDA round their factors to TF32's 10 bits unless it is told not to.
    """
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def to_host(values: Tensor) -> np.ndarray:
    """A tensor's values here; from CUDA through pinned memory, several times as fast as without."""
    if values.is_cuda:
        values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values)
    return values.cpu().numpy()
