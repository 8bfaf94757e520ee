"""Runs before the test modules here are imported."""

import torch

from dap_engine.models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # some of them import transformers, which imports torchvision where it is installed
torch.set_num_threads(1)  # small tensors gain nothing from threads, and lose much where cores are shared
