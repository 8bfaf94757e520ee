"""DINOv3 ViT backbones (arXiv 2508.10104): their sizes, and their weights as Meta's repository stores them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import DINOv3ViTBackbone, DINOv3ViTConfig  # noqa: E402

from .layout import Layout  # noqa: E402

_PARTS_OF_A_BLOCK = {"norm1": "norm1", "attn.proj": "attention.o_proj", "norm2": "norm2"}
_PLAIN_MLP = {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"}
_GATED_MLP = {"mlp.w1": "mlp.gate_proj", "mlp.w2": "mlp.up_proj", "mlp.w3": "mlp.down_proj"}


def meta_config(weights: Mapping[str, Tensor]) -> DINOv3ViTConfig:
    """The configuration of a backbone in Meta's names, found from the tensors; ValueError if it is none."""
    try:
        hidden = weights["cls_token"].shape[-1]
        gated = "blocks.0.mlp.w1.weight" in weights
        return DINOv3ViTConfig(
            patch_size=weights["patch_embed.proj.weight"].shape[-1],
            hidden_size=hidden,
            intermediate_size=weights["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks.")),
            num_attention_heads=hidden // (4 * weights["rope_embed.periods"].shape[0]),
            num_register_tokens=weights["storage_tokens"].shape[1],
            use_gated_mlp=gated,
            hidden_act="silu" if gated else "gelu",
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"no DINOv3 backbone in Meta's names: {error}") from error


def meta_layout(config: DINOv3ViTConfig) -> Layout:
    """Meta's names of a `DINOv3ViTBackbone`: one projection for queries, keys and values, the keys' bias masked off."""
    hidden = config.hidden_size
    parts: dict[str, tuple[str | None, ...]] = {
        "cls_token": ("embeddings.cls_token",),
        "storage_tokens": ("embeddings.register_tokens",),
        "mask_token": ("embeddings.mask_token",),
        "rope_embed.periods": (),
        **weights_and_biases("patch_embed.proj", "embeddings.patch_embeddings"),
        **weights_and_biases("norm", "norm"),
    }
    shapes = {"mask_token": (1, hidden), "rope_embed.periods": (hidden // config.num_attention_heads // 4,)}
    return Layout(parts, shapes) | blocks_layout(config)


def blocks_layout(config: DINOv3ViTConfig) -> Layout:
    """The part of `meta_layout` whose names begin with `blocks.`."""
    layout, block = Layout({}), _block_layout(config)
    for index in range(config.num_hidden_layers):
        layout |= block.prefixed(f"blocks.{index}.", f"model.layer.{index}.")
    return layout


def _block_layout(config: DINOv3ViTConfig) -> Layout:
    parts: dict[str, tuple[str | None, ...]] = {
        "ls1.gamma": ("layer_scale1.lambda1",),
        "ls2.gamma": ("layer_scale2.lambda1",),
        "attn.qkv.weight": ("attention.q_proj.weight", "attention.k_proj.weight", "attention.v_proj.weight"),
        "attn.qkv.bias": ("attention.q_proj.bias", None, "attention.v_proj.bias"),
        "attn.qkv.bias_mask": (),
    }
    for theirs, ours in {**_PARTS_OF_A_BLOCK, **(_GATED_MLP if config.use_gated_mlp else _PLAIN_MLP)}.items():
        parts |= weights_and_biases(theirs, ours)
    return Layout(parts, {"attn.qkv.bias_mask": (3 * config.hidden_size,)})


def weights_and_biases(theirs: str, ours: str) -> dict[str, tuple[str | None, ...]]:
    """The parts of a `Layout` for a linear or convolutional layer, or a normalisation."""
    return {f"{theirs}.{kind}": (f"{ours}.{kind}",) for kind in ("weight", "bias")}


def check_meta_arithmetic(weights: Mapping[str, Tensor], config: DINOv3ViTConfig) -> None:
    """ValueError unless the tensors that are not weights say what `DINOv3ViTBackbone` computes.

    The bias masks are 1 for queries and values, 0 for keys; the periods of n frequencies are 100^(i/n), i = 0 … n − 1.
    """
    mask = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(config.hidden_size)
    frequencies = config.hidden_size // config.num_attention_heads // 4
    periods = config.rope_theta ** (torch.arange(frequencies) / frequencies)
    for name, tensor in weights.items():
        if name.endswith("attn.qkv.bias_mask") and not torch.equal(tensor.float(), mask):
            raise ValueError(f"{name} is not 1 for queries and values, 0 for keys")
        if name.endswith("rope_embed.periods") and not torch.allclose(tensor.float(), periods, rtol=1e-2):
            raise ValueError(f"{name} are not those of the base {config.rope_theta:g}")  # up to bfloat16's rounding


def convert_meta(weights: Mapping[str, Tensor]) -> tuple[DINOv3ViTConfig, dict[str, Tensor]]:
    """Configuration and weights of a `DINOv3ViTBackbone` from a state dict in Meta's names; strict, ValueError."""
    config = meta_config(weights)
    with torch.device("meta"):
        network = DINOv3ViTBackbone(config)
    converted = meta_layout(config).convert(weights, network)
    check_meta_arithmetic(weights, config)
    return config, converted
