"""Making images smaller on an accelerator, to the bytes that OpenCV's INTER_AREA gives on the CPU.

A pixel is the mean of those that it covers. Weights, the order of sums and rounding are OpenCV's (resize.cpp): where a
mean is a half, which happens often, another order would round it the other way.
"""

import math

import torch
from torch import Tensor

from ..geometry.equirectangular import remembered


def shrink(rgb: Tensor, height: int, width: int) -> Tensor:
    """A uint8 image (h, w, 3) to (H, W, 3), neither side longer than before, on its device."""
    tall, wide = rgb.shape[0] / height, rgb.shape[1] / width
    if tall == wide == 1:
        return rgb
    if tall.is_integer() and wide.is_integer():
        return _means_of_blocks(rgb, int(tall), int(wide))
    columns = _weighted_sum(rgb.float().transpose(0, 1), width)
    return _weighted_sum(columns.transpose(0, 1), height).round().to(torch.uint8)


def _means_of_blocks(rgb: Tensor, tall: int, wide: int) -> Tensor:
    height, width = rgb.shape[0] // tall, rgb.shape[1] // wide
    sums = rgb.reshape(height, tall, width, wide, 3).sum((1, 3), dtype=torch.int32)
    if tall == wide == 2:
        return ((sums + 2) >> 2).to(torch.uint8)
    return (sums * torch.tensor(1 / (tall * wide), dtype=torch.float32)).round().to(torch.uint8)


def _weighted_sum(values: Tensor, target: int) -> Tensor:
    """Values (h, …) to (H, …): what each pixel covers along the first axis, added up one after another."""
    indices, weights = _coverage(values.shape[0], target, values.device)
    total = torch.zeros((), device=values.device)
    for index, weight in zip(indices, weights, strict=True):
        total = total + values[index] * weight[:, None, None]
    return total


@remembered
def _coverage(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What each target pixel covers: source pixels and their shares, (K, target); what is short is filled with 0."""
    covered = [_covered(number, source, source / target) for number in range(target)]
    most = max(map(len, covered))
    padded = torch.tensor([pairs + [(0, 0.0)] * (most - len(pairs)) for pairs in covered], dtype=torch.float64)
    indices, weights = padded.permute(2, 1, 0)
    return indices.long().to(device), weights.float().to(device)


def _covered(number: int, source: int, scale: float) -> list[tuple[int, float]]:
    """Source pixels that a target pixel covers by more than a thousandth, with their shares of it."""
    start, end = number * scale, number * scale + scale
    width = min(scale, source - start)
    last = min(math.floor(end), source - 1)
    first = min(math.ceil(start), last)
    before = [(first - 1, (first - start) / width)] if first - start > 1e-3 else []
    after = [(last, min(end - last, 1.0, width) / width)] if end - last > 1e-3 else []
    return [*before, *((index, 1 / width) for index in range(first, last)), *after]
