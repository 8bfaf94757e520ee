from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoBackbone, Dinov2Config, Dinov2Model, DINOv3ViTBackbone, DINOv3ViTConfig, DINOv3ViTModel

from dap_engine.models.network.config import BACKBONES, DapConfig
from dap_engine.models.network.dap import DapModel
from dap_engine.models.network.dinov3 import convert_meta

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2}
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
HEADS = {"head_channels": (8, 8, 8, 8), "head_features": 8, "head_output_features": 8, "image_height": 64}


def _backbone(kind: type, **fields) -> DINOv3ViTBackbone | DINOv3ViTModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(DINOv3ViTConfig(**TINY, num_register_tokens=4, **fields))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def in_metas_names(backbone) -> dict[str, Tensor]:
    """The state dict as Meta's repository stores it; its keys' bias is there, and masked off."""
    ours, names = backbone.state_dict(), {"up_proj": "fc1", "down_proj": "fc2"}
    if backbone.config.use_gated_mlp:
        names = {"gate_proj": "w1", "up_proj": "w2", "down_proj": "w3"}
    meta = {
        "cls_token": ours["embeddings.cls_token"],
        "storage_tokens": ours["embeddings.register_tokens"],
        "mask_token": ours["embeddings.mask_token"][0],
        "rope_embed.periods": 100.0 ** (torch.arange(4) / 4),
    }
    for kind in ("weight", "bias"):
        meta[f"patch_embed.proj.{kind}"] = ours[f"embeddings.patch_embeddings.{kind}"]
        meta[f"norm.{kind}"] = ours[f"norm.{kind}"]
    for index in range(4):
        block, layer = f"blocks.{index}", f"model.layer.{index}"
        ours[f"{layer}.attention.k_proj.bias"] = torch.full((32,), 7.0)
        meta[f"{block}.attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(32)
        meta |= {f"{block}.ls{k}.gamma": ours[f"{layer}.layer_scale{k}.lambda1"] for k in (1, 2)}
        for kind in ("weight", "bias"):
            meta[f"{block}.attn.qkv.{kind}"] = torch.cat([ours[f"{layer}.attention.{p}_proj.{kind}"] for p in "qkv"])
            meta[f"{block}.attn.proj.{kind}"] = ours[f"{layer}.attention.o_proj.{kind}"]
            meta |= {f"{block}.norm{k}.{kind}": ours[f"{layer}.norm{k}.{kind}"] for k in (1, 2)}
            meta |= {f"{block}.mlp.{m}.{kind}": ours[f"{layer}.mlp.{o}.{kind}"] for o, m in names.items()}
    return meta


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_metas_file_and_the_hubs_folder_give_one_backbone(gated: bool, suffix: str, tmp_path: Path) -> None:
    hub = _backbone(DINOv3ViTModel, **(GATED if gated else {}))
    hub.save_pretrained(tmp_path / "hub")
    file = tmp_path / f"meta{suffix}"
    save_file(in_metas_names(hub), file) if suffix == ".safetensors" else torch.save(in_metas_names(hub), file)
    from_meta, from_hub = DapModel.from_backbone(file, **HEADS), DapModel.from_backbone(tmp_path / "hub", **HEADS)
    images = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    for one, other in zip(from_meta.eval().features(images), from_hub.eval().features(images), strict=True):
        assert torch.equal(one, other)
    assert from_meta.state_dict().keys() == from_hub.state_dict().keys()
    assert all(
        torch.equal(from_meta.state_dict()[name], tensor)
        for name, tensor in hub.state_dict().items()
        if "." not in name
    )
    from_meta.save_pretrained(tmp_path / "dap")
    assert torch.equal(DapModel.from_folder(tmp_path / "dap").features(images)[0], from_hub.features(images)[0])


@pytest.mark.parametrize("name", ["mask_token", "storage_tokens", "blocks.2.ls1.gamma", "blocks.0.attn.qkv.bias_mask"])
def test_a_missing_tensor_of_metas_is_one_line(name: str, tmp_path: Path) -> None:
    weights = in_metas_names(_backbone(DINOv3ViTBackbone))
    del weights[name]
    torch.save(weights, tmp_path / "meta.pth")
    with pytest.raises(ValueError, match=rf"^[^\n]*meta\.pth: [^\n]*{name}[^\n]*$"):
        DapModel.from_backbone(tmp_path / "meta.pth", **HEADS)


def test_what_is_no_file_of_weights_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "meta.pth"
    file.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"^[^\n]*meta\.pth is no file of weights: [^\n]*$"):
        DapModel.from_backbone(file)
    torch.save({"epoch": 3}, file)
    with pytest.raises(ValueError, match=r"^[^\n]*meta\.pth is no state dict[^\n]*$"):
        DapModel.from_backbone(file)
    torch.save({"model": {}, "epoch": 3}, file)  # wrapped, but nothing in it
    with pytest.raises(ValueError, match=r"^[^\n]*meta\.pth: no DINOv3 backbone[^\n]*$"):
        DapModel.from_backbone(file)


class _Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_pickles_are_never_run(tmp_path: Path) -> None:
    torch.save({"cls_token": _Hostile()}, tmp_path / "meta.pth")
    with pytest.raises(ValueError, match=r"^[^\n]*is no file of weights[^\n]*$"):
        DapModel.from_backbone(tmp_path / "meta.pth")


def test_what_has_no_backbone_is_one_line() -> None:
    with pytest.raises(ValueError, match="no DINOv3 backbone in Meta's names"):
        convert_meta({"weight": torch.zeros(1)})


MILLIONS = {
    "dinov3_vits16": 21.6,
    "dinov3_vits16plus": 28.7,
    "dinov3_vitb16": 85.7,
    "dinov3_vitl16": 303.1,
    "dinov3_vith16plus": 840.6,
    "dinov2_vits14": 22.1,
    "dinov2_vitb14": 86.6,
    "dinov2_vitl14": 304.4,
    "dinov2_vitg14": 1136.5,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_have_their_published_sizes(name: str) -> None:
    with torch.device("meta"):
        backbone = AutoBackbone.from_config(DapConfig.of(name).backbone)
    assert backbone.num_parameters() / 1e6 == pytest.approx(MILLIONS[name], abs=0.1)


def test_an_unknown_backbone_is_one_line() -> None:
    with pytest.raises(ValueError, match="no backbone 'vit': there are dinov3_vits16, "):
        DapConfig.of("vit")


def test_dinov2_backbones_come_with_their_weights(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
    pretrained = Dinov2Model(Dinov2Config(**shape, patch_size=14, image_size=28))
    pretrained.save_pretrained(tmp_path / "hub")
    model = DapModel.from_backbone(tmp_path / "hub", **{**HEADS, "image_height": None}).eval()
    assert model.config.image_size == (518, 1036)
    weights = model.backbone.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in pretrained.state_dict().items())
    images = torch.randn(1, 3, 42, 84, generator=torch.Generator().manual_seed(0))
    assert model(images).predicted_depth.shape == (1, 42, 84)
    model.save_pretrained(tmp_path / "dap")
    assert torch.equal(DapModel.from_folder(tmp_path / "dap")(images).predicted_depth, model(images).predicted_depth)
