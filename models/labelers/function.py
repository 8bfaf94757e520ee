"""A depth model behind a function of the user's: `python:MODULE:FUNCTION`.

def FUNCTION(rgb):      # (H, W, 3) uint8
    return depth_m      # (H, W) floats, positive; inf where it is beyond the range

One that is fast on several pictures at once says so, and gets a list of them, of one batch and of any sizes:

def FUNCTION(rgbs):     # [(H, W, 3) uint8, …]
    return depths_m     # [(H, W) floats, …]
FUNCTION.batched = True
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ..support.model_checks import ModelOutputError


def load_function(name: str) -> Callable[..., Any]:
    """The function of a name `MODULE:FUNCTION`; ValueError in one line if there is none."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"python:{name}: write it as python:MODULE:FUNCTION")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"python:{name}: {error}") from error
    if not callable(found):
        raise ValueError(f"python:{name} is no function")
    return found


def source_hash(name: str) -> str:
    """A hash of the source of the module that the function is written in, which stands for it in a fingerprint.

    It does not see what that module imports. ValueError in one line where there is no source to read, as of what is
    compiled or built in.
    """
    module = inspect.getmodule(load_function(name))
    try:
        if module is None:
            raise OSError("it is of no module")
        return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
    except (OSError, TypeError) as error:
        raise ValueError(f"python:{name}: cannot read its source, which tells its versions apart: {error}") from error


class FunctionDepth:
    """Calls the function for one picture at a time, or for all at once if it is `batched`."""

    def __init__(self, name: str) -> None:
        self._name, self._function = name, load_function(name)

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Maps (H, W) float32 of images (H, W, 3) uint8; ValueError if the function fails or gives another shape."""
        try:
            if getattr(self._function, "batched", False):
                found = list(self._function(rgbs))
            else:
                found = [self._function(rgb) for rgb in rgbs]
            maps = [np.asarray(values, dtype=np.float32) for values in found]
        except Exception as error:  # anybody's code, in any way
            raise ValueError(f"python:{self._name} raised {type(error).__name__}: {error}") from error
        if len(maps) != len(rgbs):
            raise ValueError(f"python:{self._name} gave {len(maps)} maps for {len(rgbs)} pictures")
        for values, rgb in zip(maps, rgbs, strict=True):
            self._check(values, rgb)
        return maps

    def _check(self, values: np.ndarray, rgb: np.ndarray) -> None:
        if values.shape != rgb.shape[:2]:
            raise ValueError(f"python:{self._name} gave {values.shape} for a picture of {rgb.shape[:2]}")
        if np.isnan(values).all():
            raise ModelOutputError(f"python:{self._name} gave no number for any pixel")
