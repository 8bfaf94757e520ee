"""`dap evaluate` on stereo pairs and on perspective pictures with depth: figures by hand, pictures, and wrong usage."""

import csv
import json

import cv2
import numpy as np
import pytest

from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.__main__ import main
from dap_engine.models.metrics.depth import depth_metrics
from tests.models.datasets import perspective_layouts as layouts
from tests.models.tiny_depth import TINY

OURS = f"python:{__name__}:"


def as_red_says(rgb: np.ndarray) -> np.ndarray:
    """What red says, the truth of all layouts."""
    return rgb[..., 0] / 12


def half_a_pixel_more(rgb: np.ndarray) -> np.ndarray:
    """Metres that are half a pixel of disparity too near."""
    return layouts.FOCAL_PX * layouts.BASELINE_M / (as_red_says(rgb) + 0.5)


def some_nan(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb[..., 0] == rgb[0, 0, 0], np.nan, 5.0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    return folder


def evaluate(capsys, dataset: str, *arguments: object) -> dict:
    assert main(["evaluate", "--dataset", dataset, *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_disparity_up_to_scale_and_shift_and_everything_is_written(capsys, tmp_path, own_folder):
    layouts.plain_stereo(tmp_path)
    command = ["--root", tmp_path, "--model", f"{OURS}as_red_says", "--output", "relative-disparity"]
    found = evaluate(capsys, "stereo", *command, "--alignment", "disparity")
    assert (found["samples"], found["output"], found["ssim_of"]) == (2, "relative-disparity", "disparity")
    assert found["disparity"]["epe_px"] == pytest.approx(0, abs=1e-6)
    assert found["ssim"] > 0.999
    assert (found["delta1"], found["rmse"], found["mae"]) == (1, None, None), "without a camera there are no metres"
    rows = list(csv.DictReader((own_folder / "dap-evaluate" / "images.csv").read_text().splitlines()))
    assert [float(row["bad_1"]) for row in rows] == [0, 0]
    drawn = sorted((own_folder / "dap-evaluate" / "pictures").iterdir())
    assert [path.stem for path in drawn] == sorted(row["key"] for row in rows)
    assert cv2.imread(str(drawn[0])).shape == (layouts.H + 24, 5 * layouts.W + 4 * 4, 3)
    assert main(["evaluate", "--dataset", "stereo", *map(str, command), "--alignment", "disparity"]) == 0
    assert "epe_px" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["occ", "noc"])
def test_metres_become_pixels_by_kitti_s_calibration(split, capsys, tmp_path, own_folder):
    layouts.kitti_2015(tmp_path)
    command = ["--root", tmp_path, "--model", f"{OURS}half_a_pixel_more", "--split", split, "--pictures", 1]
    found = evaluate(capsys, "stereo", *command)
    assert found["disparity"]["epe_px"] == pytest.approx(0.5, rel=1e-6)
    assert (found["disparity"]["bad_1"], found["disparity"]["d1"], found["alignment"]) == (0, 0, "none")
    truths = [layouts.truth(seed)[4 if split == "occ" else 12 :] for seed in (0, 1)]
    factor = layouts.FOCAL_PX * layouts.BASELINE_M
    expected = [depth_metrics(factor / (t + 0.5), factor / t, np.ones(t.shape, bool)) for t in truths]
    assert found["mae"] == pytest.approx(np.mean([one["mae"] for one in expected]), rel=1e-6)
    assert found["abs_rel"] == pytest.approx(np.mean([one["abs_rel"] for one in expected]), rel=1e-6)
    assert len(list((own_folder / "dap-evaluate" / "pictures").iterdir())) == 1


def test_depth_and_disparities_by_a_baseline(capsys, tmp_path):
    layouts.plain_perspective(tmp_path)
    command = ["--root", tmp_path, "--model", f"{OURS}as_red_says"]
    found = evaluate(capsys, "perspective", *command, "--alignment", "median")
    assert found["abs_rel"] < 0.02
    assert (found["disparity"], found["ssim_of"]) == (None, "depth")
    with_pair = evaluate(capsys, "perspective", *command, "--alignment", "median", "--baseline", layouts.BASELINE_M)
    assert with_pair["abs_rel"] == found["abs_rel"]
    assert 0 < with_pair["disparity"]["epe_px"] < 0.2
    halved = evaluate(capsys, "perspective", *command, "--units", 512)
    assert 0.2 < halved["abs_rel"] < 0.5, "of one of the three the truth is half as far"


def test_models_of_transformers_on_an_object_store(capsys, tmp_path, s3_uri, own_folder):
    layouts.kitti_depth(tmp_path / "data")
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            Storage(s3_uri).write_bytes(str(path.relative_to(tmp_path / "data")), path.read_bytes())
    (tmp_path / "model").mkdir()
    TINY["depth-anything"](tmp_path / "model")
    model = ["--model", f"hf:{tmp_path / 'model'}", "--device", "cpu", "--alignment", "disparity"]
    (here, there) = (evaluate(capsys, "perspective", *model, "--root", root) for root in (tmp_path / "data", s3_uri))
    assert here == there
    assert 0 < here["abs_rel"] < 10
    assert -1 < here["ssim"] < 1


def test_what_cannot_be(capsys, tmp_path, own_folder):
    layouts.plain_stereo(tmp_path / "stereo")
    layouts.plain_perspective(tmp_path / "perspective")
    stereo = ["--dataset", "stereo", "--root", tmp_path / "stereo"]
    red = ["--model", f"{OURS}as_red_says"]
    for arguments, message in [
        ([*stereo], "ours are for panoramas: give hf:ID"),
        ([*stereo, "--model", "unik3d:a/b"], "unik3d: is for panoramas: give hf:ID"),
        ([*stereo, *red], "disparity without alignment needs a focal length and a baseline"),
        ([*stereo, *red, "--output", "relative-disparity"], "the alignment must be disparity"),
        ([*stereo, *red, "--patches", 32], "--patches and --yaw-turns are for panoramas"),
        ([*stereo, *red, "--focal", 0], "--focal must be positive, not 0"),
        ([*stereo, *red, "--units", "nan"], "--units must be positive, not nan"),
        ([*stereo, *red, "--pictures", -1], "--pictures must not be negative"),
        ([*stereo, *red, "--split", "val"], "no split 'val'"),
        ([*stereo, "--alignment", "median", "--model", f"{OURS}some_nan"], "gives nan for "),
        (["--dataset", "stereo", "--root", tmp_path, *red], "holds no picture of stereo"),
        (["--dataset", "shards", "--root", tmp_path, *red, "--focal", 50], "--focal is for --dataset stereo and"),
    ]:
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        captured = capsys.readouterr()
        assert message in captured.err
        assert len(captured.err.strip().splitlines()) == 1, captured.err
    (tmp_path / "stereo" / "disparity" / "0.pfm").write_bytes(b"Pf\n2 2\n1\n")
    assert main(["evaluate", *map(str, [*stereo, *red, "--alignment", "median"])]) == 2
    assert "disparity/0.pfm: damaged" in capsys.readouterr().err
    assert not (own_folder / "dap-evaluate" / "evaluation.json").exists()
