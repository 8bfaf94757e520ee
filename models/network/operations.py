"""How many operations a forward pass takes, counted on networks without weights."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .dap import DapConfig, DapModel
from .discriminator import Discriminator, DiscriminatorConfig


def depth_operations(config: DapConfig, height: int) -> float:
    """Floating-point operations of a depth network for one panorama (height, 2 * height)."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        DapModel.skeleton(config)(torch.empty(1, 3, height, 2 * height))
    return float(counter.get_total_flops())


def judge_operations(config: DiscriminatorConfig) -> float:
    """Floating-point operations of a discriminator or critic for one panorama and its depth."""
    height, width = config.image_size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        Discriminator.skeleton(config)(torch.empty(1, 3, height, width), torch.ones(1, height, width))
    return float(counter.get_total_flops())
