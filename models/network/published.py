"""The published DAP checkpoint as a `DapModel` that computes what the published code computes with it."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .dap import DapConfig, DapModel
from .dinov3 import blocks_layout, check_meta_arithmetic, meta_config, meta_layout, weights_and_biases
from .layout import Layout, read_weights

_VIT = "core.pretrained.model."
_BLOCKS, _SAME_BLOCKS = "core.pretrained.model.blocks.", "core.pretrained.blocks."
_DEPTH_HEAD, _MASK_HEAD = "core.depth_head.", "core.mask_head."


def load_published(file: str | Path) -> DapModel:
    """The network of a published checkpoint (.pth or .safetensors); ValueError in one line if it is none."""
    try:
        return convert_published(read_weights(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def convert_published(weights: Mapping[str, Tensor]) -> DapModel:
    """The network of a published state dict, of any size; every tensor must be there and fit, and no other."""
    weights = _with_blocks_twice(weights)
    config = published_config(weights)
    converted = published_layout(config).convert(weights, DapModel.skeleton(config))
    check_meta_arithmetic(weights, config.backbone)
    model = DapModel.new(config)
    model.load_state_dict(converted)
    return model.eval()


def published_config(weights: Mapping[str, Tensor]) -> DapConfig:
    """The configuration, found from the tensors; ValueError if they are no published checkpoint."""
    backbone = meta_config(_below(_VIT, weights))
    try:
        head = _below(_DEPTH_HEAD, weights)
        return DapConfig(
            backbone_config=backbone,
            decoder="plain",
            head_channels=tuple(head[f"projects.{level}.weight"].shape[0] for level in range(4)),
            head_features=head["scratch.layer1_rn.weight"].shape[0],
            head_output_features=head["scratch.output_conv2.0.weight"].shape[0],
            published_tokens=True,
        )
    except KeyError as error:
        raise ValueError(f"1 missing keys: {_DEPTH_HEAD}{error.args[0]}") from error


def published_layout(config: DapConfig) -> Layout:
    """The published names of a network.

    The published code holds the backbone's blocks under two names. The second stands later in its state dict, so where
    the two differ it is the one that counts, as it is when PyTorch loads them.
    """
    _, features, _ = config.head_shape
    head = _head_layout(features)
    return (
        meta_layout(config.backbone).prefixed(_VIT, "backbone.")
        | blocks_layout(config.backbone).prefixed("core.pretrained.", "backbone.")
        | Layout(weights_and_biases("core.pretrained.norm", "published_tokens.norm"))
        | head.prefixed(_DEPTH_HEAD, "depth_head.")
        | head.prefixed(_MASK_HEAD, "mask_head.")
    )


def _head_layout(features: int) -> Layout:
    """Names of a `DptHead`. The published coarsest fusion has a unit for a finer map that it never gets."""
    names = {"output_conv1": "output_conv1", "output_conv2.0": "output_conv2", "output_conv2.2": "output"}
    for level in range(4):
        theirs, ours = f"refinenet{level + 1}", f"refinenets.{level}"
        names[f"{theirs}.out_conv"] = f"{ours}.out_conv"
        for conv in ("conv1", "conv2"):
            names[f"{theirs}.resConfUnit2.{conv}"] = f"{ours}.merge.{conv}"
            if level < 3:
                names[f"{theirs}.resConfUnit1.{conv}"] = f"{ours}.lateral.{conv}"
    layout = Layout({f"layer{level + 1}_rn.weight": (f"layer_rn.{level}.weight",) for level in range(4)})
    for theirs, ours in names.items():
        layout |= Layout(weights_and_biases(theirs, ours))
    unused = {f"refinenet4.resConfUnit1.conv{k}.weight": (features, features, 3, 3) for k in (1, 2)}
    unused |= {f"refinenet4.resConfUnit1.conv{k}.bias": (features,) for k in (1, 2)}
    layout = (layout | Layout(dict.fromkeys(unused, ()), unused)).prefixed("scratch.", "")
    for same in (*(f"projects.{level}" for level in range(4)), *(f"resize_layers.{level}" for level in (0, 1, 3))):
        layout |= Layout(weights_and_biases(same, same))
    return layout


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _with_blocks_twice(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors cannot hold a tensor under two names, so there the blocks may have either one."""
    one, other = _below(_BLOCKS, weights), _below(_SAME_BLOCKS, weights)
    return {
        **weights,
        **{_BLOCKS + name: tensor for name, tensor in other.items() if not one},
        **{_SAME_BLOCKS + name: tensor for name, tensor in one.items() if not other},
    }
