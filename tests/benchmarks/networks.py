"""The network sizes of the benchmarks: what this machine's device can bear."""

import torch

from models.dap import DapConfig
from models.inference import choose_device

DEVICE = choose_device("auto")
ON_GPU = DEVICE.type == "cuda"
NAME = "ViT-L" if ON_GPU else "ViT-S"

_VIT_L = {
    "backbone_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_register_tokens": 4,
    },
    "head_channels": (256, 512, 1024, 1024),
    "head_features": 256,
}


def config(image_height: int) -> DapConfig:
    """DAP as published on a GPU, its small variant on a CPU."""
    return DapConfig(image_height=image_height, **(_VIT_L if ON_GPU else {}))


def autocast() -> torch.autocast:
    """The precision in which labels are made."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=ON_GPU)


def synchronise() -> None:
    """Waits for what the device has still to do."""
    if ON_GPU:
        torch.cuda.synchronize()
