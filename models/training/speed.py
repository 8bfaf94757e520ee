"""Ways to train faster or in less memory that leave the weights as they are, but for rounding."""

from torch import nn

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers.modeling_layers import GradientCheckpointingLayer  # noqa: E402

from ..network.dap import DapModel  # noqa: E402


def blocks(model: DapModel) -> list[nn.Module]:
    """The parts of a network that follow each other: every layer of the backbone, and each head."""
    layers = [module for module in model.backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
    return [*layers, model.depth_head, *([model.mask_head] if model.mask_head is not None else [])]


def compile_blocks(model: DapModel, backend: str = "inductor") -> None:
    """Has `torch.compile` compile every block at its first call: layers are alike, so one compilation does for all."""
    for block in blocks(model):
        block.compile(dynamic=False, backend=backend)


def checkpoint_gradients(model: DapModel) -> None:
    """Keeps the inputs of the backbone's layers alone, and computes a layer again when its gradient is due."""
    model.activation_checkpointing_enable({"use_reentrant": False})
