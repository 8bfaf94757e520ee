import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, DINOv3ViTConfig, DINOv3ViTModel

from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.network.dpt_head import Decoder, DptHead

BACKBONE = {
    "patch_size": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
DINOV2 = {"model_type": "dinov2", "image_size": 16, **BACKBONE}
del DINOV2["intermediate_size"]
HEADS = {"head_channels": (8, 8, 8, 8), "head_features": 8, "head_output_features": 8, "image_height": 32}


def small(decoder: Decoder = "spherical", seed: int = 0, **fields: Any) -> DapModel:
    return DapModel.new(DapConfig(backbone_config=BACKBONE, decoder=decoder, **HEADS, **fields), seed).eval()


def _panoramas(count: int = 2, height: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, height, 2 * height, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("decoder", ["plain", "spherical"])
@pytest.mark.parametrize("height", [32, 48])
def test_outputs_are_metres_within_the_range_and_probabilities(decoder: Decoder, height: int) -> None:
    output = small(decoder)(_panoramas(height=height))
    assert output.predicted_depth.shape == output.beyond_range.shape == (2, height, 2 * height)
    assert output.predicted_depth.dtype == torch.float32
    assert ((output.predicted_depth > 0) & (output.predicted_depth < 100)).all()
    assert ((output.beyond_range > 0) & (output.beyond_range < 1)).all()


def test_a_new_model_starts_at_a_plausible_depth() -> None:
    output = small()(_panoramas())
    assert 3 < output.predicted_depth.median() < 8
    assert 0.03 < output.beyond_range.median() < 0.3


def test_bfloat16_gives_float32_near_the_same() -> None:
    model = small()
    exact = model(_panoramas())
    with torch.autocast("cpu", torch.bfloat16):
        output = model(_panoramas())
    for one, other in ((output.predicted_depth, exact.predicted_depth), (output.beyond_range, exact.beyond_range)):
        assert one.dtype == torch.float32
        assert 0 < (one / other - 1).abs().max() < 0.05


def _assert_compiles(fields: dict, heights: tuple[int, ...], *, training: bool = False) -> None:
    torch._dynamo.reset()
    model = DapModel.new(DapConfig(**{"backbone_config": BACKBONE, **HEADS, **fields})).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for height in heights:
        with torch.set_grad_enabled(training):
            images = _panoramas(height=height)
            assert torch.allclose(compiled(images).predicted_depth, model(images).predicted_depth)


@pytest.mark.slow
def test_the_network_compiles_without_a_break() -> None:
    _assert_compiles({}, (32,))


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"decoder": "plain", "published_tokens": True},
        {"decoder": "spherical"},
        {"backbone_config": DINOV2, "range_threshold_m": None},
    ],
)
def test_it_compiles_at_every_size(fields: dict, training: bool) -> None:
    """The second shape is one that dynamo holds in symbols."""
    _assert_compiles(fields, (32, 48), training=training)


def test_the_range_mask_is_a_plug_in() -> None:
    model = small()
    before = model(_panoramas())
    model.plug_range_mask(20.0, seed=1)
    assert model.config.range_threshold_m == 20.0
    other = model(_panoramas())
    assert torch.equal(other.predicted_depth, before.predicted_depth)
    assert not torch.equal(other.beyond_range, before.beyond_range)
    assert 0.03 < other.beyond_range.median() < 0.3
    model.plug_range_mask(None)
    assert (model(_panoramas()).beyond_range == 0).all()
    assert not [name for name in model.state_dict() if name.startswith("mask_head")]
    with pytest.raises(ValueError, match=r"range_threshold_m 200 is not within \(0, 100\]"):
        model.plug_range_mask(200.0)


def test_a_model_without_a_range_mask_keeps_so(tmp_path: Path) -> None:
    model = DapModel.new(DapConfig(backbone_config=BACKBONE, range_threshold_m=None, **HEADS)).eval()
    model.save_pretrained(tmp_path)
    loaded = DapModel.from_folder(tmp_path)
    assert loaded.config.range_threshold_m is None
    assert torch.equal(loaded(_panoramas()).predicted_depth, model(_panoramas()).predicted_depth)


def test_a_size_that_patches_do_not_fill_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^36×72 pixels are no multiples of the patch, 8$"):
        small()(_panoramas(height=36))


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one(_panoramas()).predicted_depth, other(_panoramas()).predicted_depth)


def test_every_weight_gets_a_gradient_but_the_mask_token() -> None:
    model = small()
    output = model(_panoramas())
    (output.predicted_depth.log().mean() + output.beyond_range.mean()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"backbone.embeddings.mask_token"}


def test_tiny_is_tiny() -> None:
    parameters = sum(parameter.numel() for parameter in DapModel.new(DapConfig.tiny()).parameters())
    assert 0.5e6 < parameters < 0.9e6
    assert DapConfig.tiny().image_size == (96, 192)


def test_a_folder_gives_back_the_same_network(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path)
    for load in (DapModel.from_folder, DapModel.from_pretrained, AutoModel.from_pretrained):
        assert torch.equal(load(tmp_path).eval()(_panoramas()).predicted_depth, model(_panoramas()).predicted_depth)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), DapConfig)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def _drop(weights: dict) -> None:
    del weights["depth_head.output.bias"]


def _add(weights: dict) -> None:
    weights["surplus"] = torch.zeros(1)


def _misshape(weights: dict) -> None:
    weights["depth_head.output.bias"] = torch.zeros(7)


@pytest.mark.parametrize(("damage", "message"), [(_drop, "missing"), (_add, "unexpected"), (_misshape, "mismatched")])
def test_weights_that_do_not_fit_are_an_error(tmp_path: Path, damage, message: str) -> None:
    small().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    damage(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"1 {message} keys for DapModel: "):
        DapModel.from_pretrained(tmp_path)


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model folder \(it has no config\.json\)"):
        DapModel.from_folder(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="a model of type 'vit', not 'dap'"):
        DapModel.from_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dap"}))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        DapModel.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: is no JSON"):
        DapModel.from_folder(tmp_path)


def test_pretrained_backbones_come_with_their_weights(tmp_path: Path) -> None:
    """The hub stores DINOv3 as DINOv3ViTModel, without a choice of blocks."""
    pretrained = DINOv3ViTModel(DINOv3ViTConfig(**BACKBONE, num_register_tokens=4))
    pretrained.save_pretrained(tmp_path)
    model = DapModel.from_backbone(tmp_path, **HEADS)
    assert list(model.config.backbone_config.out_indices) == [1, 2, 3, 4]
    weights = model.backbone.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in pretrained.state_dict().items())
    assert model(_panoramas()).predicted_depth.shape == (2, 32, 64)


def test_the_heads_read_the_published_blocks() -> None:
    def stages(depth: int) -> list[int]:
        return list(DapConfig(backbone_config=BACKBONE | {"num_hidden_layers": depth}).backbone_config.out_indices)

    assert stages(12) == [3, 6, 9, 12]
    assert stages(24) == [5, 12, 18, 24]
    assert stages(32) == [8, 16, 24, 32]


def test_the_heads_follow_the_backbone() -> None:
    config = DapConfig.of("dinov3_vitl16")
    assert (config.head_features, config.head_channels) == (256, (256, 512, 1024, 1024))
    assert DapConfig.of("dinov3_vitb16", head_features=32).head_features == 32
    assert DapConfig.of("dinov2_vits14").image_size == (518, 1036)


def test_a_height_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of the patch"):
        DapConfig(image_height=100)


@pytest.mark.parametrize(("patch", "height"), [(8, 4), (12, 4), (14, 4), (16, 1), (14, 3), (16, 5)])
def test_the_spherical_head_turns_with_its_input(patch: int, height: int) -> None:
    """By two cells of the patch grid, which are one cell of the coarsest level, rounded up where the height is odd."""
    torch.manual_seed(0)
    head = DptHead(8, (8, 8, 8, 8), 8, 8, patch, "spherical").double()
    maps = tuple(torch.randn(1, 8, height, 2 * height, dtype=torch.float64) for _ in range(4))
    turned = head(tuple(features.roll(2, -1) for features in maps))
    assert torch.allclose(turned, head(maps).roll(2 * patch, -1))


def test_the_plain_head_has_a_seam() -> None:
    """What the spherical one is there for: constant features give it a picture that depends on the column."""
    torch.manual_seed(0)
    flat = tuple(torch.randn(1, 8, 1, 1).expand(1, 8, 4, 8) for _ in range(4))
    plain, spherical = (DptHead(8, (8, 8, 8, 8), 8, 8, 8, decoder)(flat) for decoder in ("plain", "spherical"))
    column_dependence = [(logits[..., 0] - logits[..., 32]).abs().max().item() for logits in (plain, spherical)]
    assert column_dependence[0] > 1e-2
    assert column_dependence[1] < 1e-5
