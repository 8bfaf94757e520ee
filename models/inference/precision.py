"""The precision that networks compute in, as recipes set it."""

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]


def choose_precision(precision: Precision, device_type: str) -> Precision:
    """ "auto" is bfloat16 on CUDA and float32 elsewhere."""
    return ("bfloat16" if device_type == "cuda" else "float32") if precision == "auto" else precision
