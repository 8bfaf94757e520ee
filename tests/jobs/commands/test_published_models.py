"""Models of other authors' packages on the command line: wherever models of transformers are taken."""

import json

import cv2
import numpy as np
import pytest

from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.models.labelers.published import PUBLISHED
from tests.models.datasets.shards import write_shard
from tests.models.labelers.stand_ins import distance_m, seen

METRIC = ("unik3d", "dac", "moge", "da3")


@pytest.fixture
def panoramas(tmp_path):
    """A picture that says how far it is, as a file and as a shard with its truth."""
    rgb = seen(64)
    cv2.imwrite(str(tmp_path / "seen.png"), rgb[..., ::-1])
    (tmp_path / "data").mkdir()
    sample = {"jpg": rgb, "depth.png": encode_depth_png(distance_m(rgb)), "json": {}}
    write_shard(tmp_path / "data" / "0.tar", {"a": sample})
    return tmp_path


def test_they_predict_and_are_measured(published, panoramas, capsys, monkeypatch):
    monkeypatch.chdir(panoramas)
    for scheme in METRIC:
        model = ["--model", f"{scheme}:{published[scheme]}"]
        assert main(["predict", "seen.png", *model, "--out", scheme, "--device", "cpu"]) == 0
        depth_m = decode_depth_png((panoramas / scheme / "seen.depth.png").read_bytes()).depth_m
        assert np.median(abs(depth_m - distance_m(seen(64)))) < 0.05
    capsys.readouterr()
    assert main(["try", "depth", "seen.png", "--model", f"unik3d:{published['unik3d']}", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["median_m"] == pytest.approx(np.median(distance_m(seen(64))), abs=0.05)
    for scheme, alignment in [
        *((scheme, "none") for scheme in METRIC),
        ("panda", "scale-shift"),
        ("depthcrafter", "disparity"),
    ]:
        command = ["evaluate", "--model", f"{scheme}:{published[scheme]}", "--dataset", "shards", "--root", "data"]
        assert main([*command, "--device", "cpu", "--json", "--alignment", alignment]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["abs_rel"] < 0.02, scheme
        assert document["precision"] is None


def test_what_cannot_be_is_said_before_any_work(published, panoramas, capsys, monkeypatch):
    monkeypatch.chdir(panoramas)
    for command, message in [
        (["predict", "seen.png", "--out", "out", "--model", f"panda:{published['panda']}"], "has no metres"),
        (
            ["evaluate", "--dataset", "shards", "--root", "data", "--model", f"panda:{published['panda']}"],
            "alignment must",
        ),
        (["predict", "seen.png", "--out", "out", "--model", "unik3d:a/b", "--patches", "64"], "sees whole panoramas"),
        (["predict", "seen.png", "--out", "out", "--model", "moge:nowhere"], "not a hub id"),
    ]:
        assert main(command) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line


def test_a_package_that_is_not_there_is_one_line(panoramas, capsys, monkeypatch):
    monkeypatch.chdir(panoramas)
    (panoramas / "data" / "a.mp4").touch()
    for scheme in sorted(set(PUBLISHED) - {"da3"}):
        model = f"{scheme}:a/b"
        recipe = ["curate", "--run-dir", "run", "--set", "videos=data", "--set", f"label.model={model}"]
        for command in (
            ["predict", "seen.png", "--out", "out", "--model", model],
            ["try", "depth", "seen.png", "--model", model],
            ["evaluate", "--dataset", "shards", "--root", "data", "--model", model],
            ["plan", *recipe],
            ["run", *recipe],
        ):
            assert main(command) == 2, command
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert f"{model} needs the package" in line
            assert "which is not here: " in line
    assert not (panoramas / "run").exists()
