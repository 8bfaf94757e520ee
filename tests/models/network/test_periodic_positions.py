from pathlib import Path

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from dap_engine.models.network.config import DapConfig
from dap_engine.models.network.dap import DapModel
from dap_engine.models.network.periodic_positions import PeriodicPositions
from tests.models.network.test_dap import BACKBONE, DINOV2, HEADS

IMAGES = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _model(**fields) -> DapModel:
    model = DapModel.new(DapConfig(backbone_config=BACKBONE, **HEADS, **fields)).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@torch.no_grad()
def _error_under_yaw(model: DapModel, columns: int) -> float:
    straight, turned = (model.features(images)[-1] for images in (IMAGES, IMAGES.roll(columns, -1)))
    return (turned.roll(-columns // 8, -1) - straight).abs().max().item()


def test_neighbours_across_the_seam_are_neighbours() -> None:
    """The angle from the last column to the first is that from the first to the second, in every frequency."""
    cos, sin = PeriodicPositions(_model().config.backbone)(torch.zeros(1, 3, 8, 64))
    turned = torch.complex(cos, sin)
    step, across = turned[1] / turned[0], turned[0] / turned[-1]
    assert torch.allclose(step, across, atol=1e-5)
    cos, sin = _model().backbone.rope_embeddings(torch.zeros(1, 3, 8, 64))
    turned = torch.complex(cos, sin)
    assert not torch.allclose(turned[1] / turned[0], turned[0] / turned[-1], atol=1e-1)


@pytest.mark.parametrize("columns", [8, 16])
def test_features_turn_better_with_the_panorama(columns: int) -> None:
    periodic, published = (_error_under_yaw(_model(periodic_positions=p), columns) for p in (True, False))
    assert periodic < published / 2


def test_rows_are_those_of_dinov3_and_columns_go_around() -> None:
    model = _model(periodic_positions=True)
    published = _model().backbone.rope_embeddings(IMAGES.float())
    ours = model.backbone.rope_embeddings(IMAGES.float())
    for one, other in zip(ours, published, strict=True):
        assert torch.allclose(one[:, :4], other[:, :4], atol=1e-6)  # of 16 channels: rows, columns, and again
    wider = PeriodicPositions(model.config.backbone)(torch.zeros(1, 3, 8, 64))[0]
    assert len(wider) == 8
    assert torch.allclose(ours[0][:, 4], published[0][:, 4], atol=1e-6)  # two turns are whole already
    assert not torch.allclose(ours[0][:, 5], published[0][:, 5], atol=1e-2)


def test_they_are_kept_when_saved_and_on_pretrained_weights(tmp_path: Path) -> None:
    model = _model(periodic_positions=True).float()
    model.save_pretrained(tmp_path / "dap")
    loaded = DapModel.from_folder(tmp_path / "dap")
    assert torch.allclose(loaded(IMAGES.float()).predicted_depth, model(IMAGES.float()).predicted_depth)
    DINOv3ViTModel(DINOv3ViTConfig(**BACKBONE)).save_pretrained(tmp_path / "hub")
    pretrained = DapModel.from_backbone(tmp_path / "hub", periodic_positions=True, **HEADS)
    assert isinstance(pretrained.backbone.rope_embeddings, PeriodicPositions)


def test_other_backbones_have_none() -> None:
    with pytest.raises(ValueError, match="periodic_positions are for dinov3_vit, not dinov2"):
        DapConfig(backbone_config=DINOV2, periodic_positions=True, **HEADS)
