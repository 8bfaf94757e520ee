"""The published network, straight from its description: functions over a state dict in the published names."""

import math
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
FIRST, SECOND = "core.pretrained.model.blocks.", "core.pretrained.blocks."


def seeded_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """A checkpoint filled by names; what has two names is filled by the one that stands later."""
    weights = {name: _seeded(name.removeprefix("core."), tuple(shape), seed) for name, shape in shapes.items()}
    for name in weights:
        if name.startswith(FIRST):
            weights[name] = weights[name.replace(FIRST, SECOND)]
    return weights


def _seeded(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name.endswith("bias_mask"):
        return torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(shape[0] // 3)
    if name.endswith("rope_embed.periods"):
        return 100.0 ** (torch.arange(shape[0]) / shape[0])
    generator = np.random.Generator(np.random.PCG64(crc32(f"{seed}:{name}".encode())))
    values = generator.standard_normal(math.prod(shape), dtype=np.float32).reshape(shape)
    if name.endswith(("norm.weight", "gamma")) or (".norm" in name and name.endswith("weight")):
        return torch.from_numpy(1 + np.float32(0.1) * values)
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.05
    return torch.from_numpy(values * np.float32(scale))


def seeded_input(seed: int, height: int = 128) -> Tensor:
    generator = np.random.Generator(np.random.PCG64(seed + 1))
    return torch.from_numpy(generator.standard_normal((1, 3, height, 2 * height), dtype=np.float32))


@torch.no_grad()
def published_outputs(weights: Weights, images: Tensor, blocks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Depth in [0, 1] and the range mask, each (B, H, W), read from the given blocks (from 0)."""
    grid = (images.shape[-2] // 16, images.shape[-1] // 16)
    tokens = vit(weights, images, blocks)
    maps = [_retouched(normalised(weights, "core.pretrained.norm", layer), grid) for layer in tokens]
    return dpt(weights, "core.depth_head.", maps), dpt(weights, "core.mask_head.", maps)


def _retouched(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    batch, count, channels = tokens[:, 1:].shape
    rest = tokens[:, 1:].transpose(1, 2)
    side = round(math.sqrt(count))
    if side**2 == count:
        return F.interpolate(rest.reshape(batch, channels, side, side), size=grid, mode="bilinear", align_corners=False)
    line = F.interpolate(rest.reshape(batch, channels, count, 1), (count + 1, 1), mode="bilinear", align_corners=False)
    return line.reshape(batch, channels, *grid)


def vit(weights: Weights, images: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
    """Normalised patch tokens (B, N, C) after the given blocks."""
    patches = F.conv2d(images, *_affine(weights, "core.pretrained.model.patch_embed.proj"), stride=16)
    batch, _, height, width = patches.shape
    first = [weights[f"core.pretrained.model.{name}"].expand(batch, -1, -1) for name in ("cls_token", "storage_tokens")]
    x = torch.cat([*first, patches.flatten(2).transpose(1, 2)], dim=1)
    turn = rotation(weights["core.pretrained.model.rope_embed.periods"], height, width)
    kept = []
    for index in range(max(blocks) + 1):
        x = block(weights, f"{SECOND}{index}.", x, turn)
        if index in blocks:
            kept.append(normalised(weights, "core.pretrained.model.norm", x)[:, 5:])
    return kept


def rotation(periods: Tensor, height: int, width: int) -> Tensor:
    """Angles (N, D) by which the channels of a head are turned."""
    rows = 2 * (torch.arange(height) + 0.5) / height - 1
    columns = 2 * (torch.arange(width) + 0.5) / width - 1
    by_row = (2 * math.pi * rows[:, None] / periods)[:, None].expand(-1, width, -1)
    by_column = (2 * math.pi * columns[:, None] / periods)[None].expand(height, -1, -1)
    half = torch.cat([by_row, by_column], dim=-1).reshape(height * width, -1)
    return torch.cat([half, half], dim=-1)


def block(weights: Weights, name: str, x: Tensor, turn: Tensor) -> Tensor:
    x = x + weights[f"{name}ls1.gamma"] * attention(
        weights, f"{name}attn.", normalised(weights, f"{name}norm1", x), turn
    )
    hidden = F.linear(normalised(weights, f"{name}norm2", x), *_affine(weights, f"{name}mlp.fc1"))
    return x + weights[f"{name}ls2.gamma"] * F.linear(F.gelu(hidden), *_affine(weights, f"{name}mlp.fc2"))


def attention(weights: Weights, name: str, x: Tensor, turn: Tensor) -> Tensor:
    batch, count, channels = x.shape
    weight, bias = _affine(weights, f"{name}qkv")
    fused = F.linear(x, weight, bias * weights[f"{name}qkv.bias_mask"])
    q, k, v = fused.reshape(batch, count, 3, -1, turn.shape[-1]).permute(2, 0, 3, 1, 4)
    q, k = _turned(q, turn), _turned(k, turn)
    shares = (q @ k.transpose(-1, -2) / math.sqrt(turn.shape[-1])).softmax(dim=-1)
    return F.linear((shares @ v).transpose(1, 2).reshape(batch, count, channels), *_affine(weights, f"{name}proj"))


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    first, patches = x[..., :5, :], x[..., 5:, :]
    one, other = patches.chunk(2, dim=-1)
    return torch.cat([first, patches * turn.cos() + torch.cat([-other, one], dim=-1) * turn.sin()], dim=-2)


def dpt(weights: Weights, name: str, maps: list[Tensor]) -> Tensor:
    height, width = maps[0].shape[-2:]
    levels = [F.conv2d(m, *_affine(weights, f"{name}projects.{i}")) for i, m in enumerate(maps)]
    levels[0] = F.conv_transpose2d(levels[0], *_affine(weights, f"{name}resize_layers.0"), stride=4)
    levels[1] = F.conv_transpose2d(levels[1], *_affine(weights, f"{name}resize_layers.1"), stride=2)
    levels[3] = F.conv2d(levels[3], *_affine(weights, f"{name}resize_layers.3"), stride=2, padding=1)
    scratch = f"{name}scratch."
    levels = [F.conv2d(m, weights[f"{scratch}layer{i + 1}_rn.weight"], padding=1) for i, m in enumerate(levels)]
    x = unit(weights, f"{scratch}refinenet4.resConfUnit2.", levels[3])
    sizes = [(8 * height, 8 * width), *(tuple(level.shape[-2:]) for level in levels[:3])]
    for i in (3, 2, 1, 0):
        fusion = f"{scratch}refinenet{i + 1}."
        if i < 3:
            x = unit(weights, f"{fusion}resConfUnit2.", x + unit(weights, f"{fusion}resConfUnit1.", levels[i]))
        x = F.conv2d(_enlarged(x, sizes[i]), *_affine(weights, f"{fusion}out_conv"))
    x = F.conv2d(x, *_affine(weights, f"{scratch}output_conv1"), padding=1)
    x = F.conv2d(_enlarged(x, (16 * height, 16 * width)), *_affine(weights, f"{scratch}output_conv2.0"), padding=1)
    return F.conv2d(x.relu(), *_affine(weights, f"{scratch}output_conv2.2")).sigmoid()[:, 0]


def unit(weights: Weights, name: str, x: Tensor) -> Tensor:
    inner = F.conv2d(x.relu(), *_affine(weights, f"{name}conv1"), padding=1)
    return x + F.conv2d(inner.relu(), *_affine(weights, f"{name}conv2"), padding=1)


def _enlarged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def normalised(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], *_affine(weights, name), eps=1e-5)


def _affine(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
