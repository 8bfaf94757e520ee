"""The published checkpoint: strictly read, and computed as its description says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.network.published import convert_published, load_published, published_layout
from tests.models.published_reference import FIRST, SECOND, Weights, published_outputs, seeded_input, seeded_weights

SMALL = DapConfig(
    backbone_config={
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_register_tokens": 4,
    },
    decoder="plain",
    head_channels=(8, 12, 16, 24),
    head_features=16,
    head_output_features=8,
    published_tokens=True,
)
BLOCKS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23)}


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Path:
    folder = shared_data.parent / "published"
    if not folder.is_dir():
        pytest.skip(f"no published facts at {folder}")
    return folder


@pytest.fixture
def weights() -> Weights:
    return seeded_weights(published_layout(SMALL).expected(DapModel.skeleton(SMALL)), seed=1)


def _outputs(model: DapModel, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        output = model(images)
    return output.predicted_depth / 100, output.beyond_range


def _assert_equal(model: DapModel, weights: Weights, images: torch.Tensor, tolerance: float = 1e-5) -> None:
    blocks = BLOCKS[model.config.backbone.num_hidden_layers]
    for ours, theirs in zip(_outputs(model, images), published_outputs(weights, images, blocks), strict=True):
        assert (ours - theirs).norm() / theirs.norm() < tolerance


@pytest.mark.parametrize("height", [32, 80, 96])
def test_it_computes_what_is_published(weights: Weights, height: int) -> None:
    """At 80×160, the 49 tokens that are left of 50 are a square."""
    _assert_equal(convert_published(weights), weights, seeded_input(3, height))


def test_the_reference_differs_without_the_quirks(weights: Weights) -> None:
    model = convert_published(weights)
    model.published_tokens = None
    with pytest.raises(AssertionError):
        _assert_equal(model, weights, seeded_input(3, 80), tolerance=1e-2)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_becomes_a_folder_that_computes_the_same(weights: Weights, prefix: str, tmp_path: Path) -> None:
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "official.pth")
    load_published(tmp_path / "official.pth").save_pretrained(tmp_path / "ours")
    model = DapModel.from_folder(tmp_path / "ours")
    assert model.config.published_tokens
    assert model.config.decoder == "plain"
    _assert_equal(model, weights, seeded_input(4, 64))


@pytest.mark.parametrize("left_out", [None, FIRST, SECOND])
def test_safetensors_may_hold_the_blocks_once(weights: Weights, left_out: str | None, tmp_path: Path) -> None:
    kept = {n: t.clone() for n, t in weights.items() if left_out is None or not n.startswith(left_out)}
    save_file(kept, tmp_path / "official.safetensors")
    _assert_equal(load_published(tmp_path / "official.safetensors"), weights, seeded_input(4, 32))


def test_of_two_names_the_later_counts(weights: Weights) -> None:
    """As it does when PyTorch loads a state dict into a module that another shares."""
    odd = {
        name: tensor + 1 if name.startswith(FIRST) and "mask" not in name else tensor
        for name, tensor in weights.items()
    }
    _assert_equal(convert_published(odd), weights, seeded_input(4, 32))


DAMAGES = {
    "core.mask_head.scratch.refinenet4.resConfUnit1.conv1.weight": "missing",  # nothing uses it
    "core.pretrained.model.blocks.3.norm1.weight": "missing",
    "core.pretrained.blocks.3.norm1.weight": "missing",
    "core.pretrained.blocks.0.attn.qkv.bias_mask": "missing",
    "core.pretrained.model.cls_token": "cls_token",
    "core.depth_head.projects.2.weight": "missing",
    "core.depth_head.scratch.output_conv2.2.bias": "missing",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_missing_tensor_is_one_line(weights: Weights, name: str, tmp_path: Path) -> None:
    del weights[name]
    torch.save(weights, tmp_path / "official.pth")
    with pytest.raises(ValueError, match=r"^[^\n]*official\.pth: [^\n]*$") as caught:
        load_published(tmp_path / "official.pth")
    assert DAMAGES[name] in str(caught.value)


@pytest.mark.parametrize("name", [*DAMAGES, "core.pretrained.model.rope_embed.periods"])
def test_a_misshapen_tensor_is_one_line(weights: Weights, name: str) -> None:
    weights[name] = torch.cat([weights[name], weights[name]], dim=-1)
    with pytest.raises(ValueError, match=r"^[^\n]*(mismatched|missing|periods)[^\n]*$"):
        convert_published(weights)


def test_an_unexpected_tensor_is_one_line(weights: Weights) -> None:
    weights["core.surplus"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"^1 unexpected keys: core\.surplus$"):
        convert_published(weights)


def test_other_arithmetic_is_refused(weights: Weights) -> None:
    mask, periods = f"{SECOND}2.attn.qkv.bias_mask", "core.pretrained.model.rope_embed.periods"
    with pytest.raises(ValueError, match="bias_mask is not 1 for queries and values, 0 for keys"):
        convert_published(weights | {mask: torch.ones_like(weights[mask])})
    with pytest.raises(ValueError, match="periods are not those of the base 100"):
        convert_published(weights | {periods: 2 * weights[periods]})


@pytest.mark.shared
@pytest.mark.parametrize(("size", "backbone"), [("s", "dinov3_vits16"), ("l", "dinov3_vitl16")])
def test_names_and_shapes_are_the_published_ones(published: Path, size: str, backbone: str) -> None:
    entries = json.loads((published / f"state_dict_vit{size}.json").read_text())
    config = DapConfig.of(backbone, decoder="plain", published_tokens=True)
    expected = published_layout(config).expected(DapModel.skeleton(config))
    assert expected == {name: tuple(shape) for name, (shape, _) in entries.items()}


@pytest.mark.shared
def test_the_published_outputs_are_met(published: Path, tmp_path: Path) -> None:
    entries = json.loads((published / "state_dict_vits.json").read_text())
    torch.save(seeded_weights({n: tuple(s) for n, (s, _) in entries.items()}, 0), tmp_path / "official.pth")
    model, reference = load_published(tmp_path / "official.pth"), np.load(published / "parity_vits_seed0.npz")
    for ours, name in zip(_outputs(model, seeded_input(0)), ("depth", "mask"), strict=True):
        theirs = torch.from_numpy(reference[name])
        assert (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.slow
def test_the_large_network_computes_what_is_published() -> None:
    config = DapConfig.of("dinov3_vitl16", decoder="plain", published_tokens=True)
    weights = seeded_weights(published_layout(config).expected(DapModel.skeleton(config)), seed=5)
    _assert_equal(convert_published(weights), weights, seeded_input(5, 80), tolerance=1e-4)
