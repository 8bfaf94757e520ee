"""`dap convert`, from a state dict to a model folder that `dap predict` takes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from dap_engine.jobs.__main__ import main
from dap_engine.models.network.dap import DapModel
from dap_engine.models.network.published import published_layout
from tests.models.network.test_published import SMALL
from tests.models.published_reference import seeded_weights


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("official") / "official.pth"
    weights = seeded_weights(published_layout(SMALL).expected(DapModel.skeleton(SMALL)), seed=1)
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, file)
    return file


def test_a_checkpoint_becomes_a_folder(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(official), "--out", str(tmp_path / "dap")]) == 0
    assert "12 blocks of width 64" in capsys.readouterr().err
    model = DapModel.from_folder(tmp_path / "dap")
    assert model.config.image_size == (512, 1024)
    assert AutoImageProcessor.from_pretrained(tmp_path / "dap").size == {"height": 512, "width": 1024}


def test_predict_takes_what_convert_made(official: Path, tmp_path: Path) -> None:
    main(["convert", str(official), "--out", str(tmp_path / "dap")])
    rgb = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "hall.png"), rgb)
    given = ["predict", str(tmp_path / "hall.png"), "--model", str(tmp_path / "dap"), "--out", str(tmp_path / "out")]
    assert main([*given, "--ply", "--precision", "bfloat16"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"hall.depth.png", "hall.colour.png", "hall.ply"}


def _renamed(weights: dict, before: str) -> dict:
    return {name.replace("module.", before): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"model": weights, "optimizer": {"step": 3}, "epoch": 2},
        lambda weights: {"state_dict": _renamed(weights, "model."), "pytorch-lightning_version": "2.6"},
        lambda weights: {"model_state_dict": _renamed(weights, "_orig_mod.module.")},
        lambda weights: {"model": {"state_dict": _renamed(weights, "module._orig_mod.")}},
    ],
)
def test_what_trainings_wrap_around_a_checkpoint_is_taken_off(wrap, official: Path, tmp_path: Path) -> None:
    torch.save(wrap(torch.load(official, weights_only=True)), tmp_path / "wrapped.pth")
    for file in (official, tmp_path / "wrapped.pth"):
        assert main(["convert", str(file), "--out", str(tmp_path / file.stem)]) == 0
    one, other = (tmp_path / name / "model.safetensors" for name in ("official", "wrapped"))
    assert one.read_bytes() == other.read_bytes()


def test_a_pointer_in_place_of_a_checkpoint_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dap.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert main(["convert", str(tmp_path / "dap.pth"), "--out", str(tmp_path / "dap")]) == 2
    assert "it is a pointer of Git LFS" in capsys.readouterr().err


def _missing(weights: dict) -> None:
    del weights["module.core.mask_head.projects.0.bias"]


def _surplus(weights: dict) -> None:
    weights["module.core.surplus"] = torch.zeros(2)


def _misshapen(weights: dict) -> None:
    weights["module.core.pretrained.norm.weight"] = torch.zeros(3)


@pytest.mark.parametrize("damage", [_missing, _surplus, _misshapen])
def test_what_does_not_fit_is_one_line_and_no_folder(damage, official: Path, tmp_path: Path, capsys) -> None:
    weights = torch.load(official, weights_only=True)
    damage(weights)
    torch.save(weights, tmp_path / "damaged.pth")
    assert main(["convert", str(tmp_path / "damaged.pth"), "--out", str(tmp_path / "dap")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dap convert: {tmp_path}/damaged.pth: 1 ")
    assert not (tmp_path / "dap").exists()


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name in ("text.pth", "text.safetensors", "other.pth", "nowhere.pth"):
        assert main(["convert", str(tmp_path / name), "--out", str(tmp_path / "dap")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"dap convert: {tmp_path / name}")


def test_predict_refuses_no_turns(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(official), "--out", str(tmp_path / "out"), "--yaw-turns", "0"]) == 2
    assert "--yaw-turns must be at least 1, not 0" in capsys.readouterr().err
