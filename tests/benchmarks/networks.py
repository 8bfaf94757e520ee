"""The network sizes of the benchmarks: what this machine's device can bear."""

import torch

from dap_engine.models.inference.device import choose_device
from dap_engine.models.network.dap import DapConfig

DEVICE = choose_device("auto")
ON_GPU = DEVICE.type == "cuda"
NAME = "ViT-L" if ON_GPU else "ViT-S"


def config(image_height: int) -> DapConfig:
    """DAP as published on a GPU, its small variant on a CPU."""
    return DapConfig.of("dinov3_vitl16" if ON_GPU else "dinov3_vits16", image_height=image_height)


def autocast() -> torch.autocast:
    """The precision in which labels are made."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU)


def synchronise() -> None:
    """Waits for what the device has still to do."""
    if ON_GPU:
        torch.cuda.synchronize()
