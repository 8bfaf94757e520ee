"""`dap evaluate`: figures by hand on data sets of every layout, what it saves, and one clear line for what is wrong."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.metrics.depth import NAMES, depth_metrics
from tests.models.datasets import layouts
from tests.models.datasets.layouts import LAYOUTS
from tests.models.datasets.shards import write_shard
from tests.models.tiny_depth import TINY

OURS = f"python:{__name__}:"


def five_metres(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], 5.0)


def by_brightness(rgb: np.ndarray) -> np.ndarray:
    return 1 + rgb[..., 0] / 50


def all_sky(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], np.inf)


def some_zeros(rgb: np.ndarray) -> np.ndarray:
    return five_metres(rgb) * (rgb[..., 0] != rgb[0, 0, 0])


def some_nan(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb[..., 0] == rgb[0, 0, 0], np.nan, 5.0)


def talkative(rgb: np.ndarray) -> np.ndarray:
    print("thinking ...")
    return five_metres(rgb)


def broken(rgb: np.ndarray) -> np.ndarray:
    raise KeyError("depth")


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    return folder


def evaluate(capsys, *arguments: object) -> dict:
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    captured = capsys.readouterr()

    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(captured.out, parse_constant=refuse)


def fails(capsys, *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    return captured.err


@pytest.mark.parametrize("name", ["structured3d", "shards"])
def test_a_data_set_on_an_object_store(name, capsys, tmp_path, s3_uri):
    data = tmp_path / "data"
    if name == "shards":
        data.mkdir()
        fields = {"jpg": layouts.rgb(1), "depth.png": encode_depth_png(layouts.depth_m(1)), "json": {}}
        write_shard(data / "0.tar", {"a": fields})
    else:
        LAYOUTS[name](data)
    for path in (path for path in data.rglob("*") if path.is_file()):
        Storage(s3_uri).write_bytes(path.relative_to(data).as_posix(), path.read_bytes())
    common = "--model", f"{OURS}five_metres", "--dataset", name, "--root"
    assert evaluate(capsys, *common, s3_uri) == evaluate(capsys, *common, data)
    assert "s3://" in fails(capsys, *common, s3_uri, "--split", "none-such")


def test_what_a_model_prints_is_no_part_of_the_document(capsys, tmp_path):
    seeds = LAYOUTS["structured3d"](tmp_path)
    document = evaluate(capsys, "--model", f"{OURS}talkative", "--dataset", "structured3d", "--root", tmp_path)
    assert document["samples"] == len(seeds)


def test_a_function_that_fails_and_a_device_that_is_not_there(capsys, tmp_path):
    LAYOUTS["structured3d"](tmp_path)
    data = ("--dataset", "structured3d", "--root", tmp_path)
    assert f"{OURS}broken raised KeyError: 'depth'" in fails(capsys, "--model", f"{OURS}broken", *data)
    assert "--device nowhere" in fails(capsys, "--model", f"{OURS}five_metres", "--device", "nowhere", *data)


@pytest.mark.parametrize("name", LAYOUTS)
def test_figures_by_hand(name, capsys, tmp_path):
    seeds = LAYOUTS[name](tmp_path)
    document = evaluate(capsys, "--model", f"{OURS}five_metres", "--dataset", name, "--root", tmp_path)
    alone = [depth_metrics(np.full((8, 16), 5.0), layouts.depth_m(s), np.ones((8, 16), bool)) for s in seeds]
    assert (document["dataset"], document["samples"]) == (name, len(seeds))
    for metric in NAMES:
        assert document[metric] == pytest.approx(np.mean([one[metric] for one in alone]))
        for variant in ("official", "spherical"):
            assert document[variant][metric] == pytest.approx(np.mean([one[variant][metric] for one in alone]))
    assert set(document["official"]) == set(document["spherical"]) == set(NAMES)
    assert (document["output"], document["range_iou"]) == ("metric-depth", None)
    assert (document["split"], document["precision"], document["left_out"]) == (None, None, 0)


def test_what_is_saved(capsys, tmp_path, own_folder):
    LAYOUTS["structured3d"](tmp_path)
    command = ["--model", f"{OURS}by_brightness", "--dataset", "structured3d", "--root", tmp_path]
    document = evaluate(capsys, *command, "--out", own_folder / "a" / "b", "--batch-size", 2)
    folder = own_folder / "a" / "b"
    assert json.loads((folder / "evaluation.json").read_text()) == document
    rows = pq.read_table(folder / "images.parquet").to_pylist()
    assert len(rows) == 3
    assert np.mean([row["abs_rel"] for row in rows]) == pytest.approx(document["abs_rel"])
    assert np.mean([row["boundary_f1"] for row in rows]) == pytest.approx(document["sharpness"]["boundary_f1"])
    written = list(csv.DictReader(io.StringIO((folder / "images.csv").read_text())))
    assert [row["key"] for row in written] == [row["key"] for row in rows]
    assert float(written[0]["rmse"]) == pytest.approx(rows[0]["rmse"])
    picture = Image.open(folder / "worst.png")
    assert picture.width / picture.height == pytest.approx(4 * 3.2 / (3 * 1.75), rel=0.05)


def test_batches_do_not_change_a_figure(capsys, tmp_path):
    LAYOUTS["structured3d"](tmp_path)
    command = ["--model", f"{OURS}by_brightness", "--dataset", "structured3d", "--root", tmp_path, "--batch-size"]
    assert evaluate(capsys, *command, 1) == evaluate(capsys, *command, 3)


def test_our_own_model_on_shards_tells_range_seam_and_yaw(capsys, tmp_path):
    sky_m = layouts.depth_m(1)
    sky_m[:2] = np.inf
    sample = {"jpg": layouts.rgb(1), "depth.png": encode_depth_png(sky_m), "json": {"split": "test"}}
    write_shard(tmp_path / "0.tar", {"a": sample})
    document = evaluate(capsys, "--dataset", "shards", "--root", tmp_path, "--split", "test", "--device", "cpu")
    assert 0 <= document["range_iou"] <= 1
    assert set(document["official_masked"]) == set(NAMES)
    assert document["sphere"]["seam_ratio"] >= 0
    assert document["sphere"]["yaw_error"] > 0
    turned = evaluate(capsys, "--dataset", "shards", "--root", tmp_path, "--device", "cpu", "--yaw-turns", 4)
    assert turned["sphere"]["yaw_error"] < document["sphere"]["yaw_error"]
    assert main(["evaluate", "--dataset", "shards", "--root", str(tmp_path), "--split", "test", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"embedded on {tmp_path}, split test, float32"
    assert "official_masked" in printed[2]


def test_our_own_model_is_measured_in_float32_unless_told(capsys, tmp_path):
    seeds = LAYOUTS["structured3d"](tmp_path)
    command = ["--dataset", "structured3d", "--root", tmp_path, "--split", "val", "--device", "cpu"]
    exact, coarse = evaluate(capsys, *command), evaluate(capsys, *command, "--precision", "bfloat16")
    assert (exact["precision"], coarse["precision"], exact["split"]) == ("float32", "bfloat16", "val")
    assert 0 < exact["samples"] < len(seeds)
    assert exact["abs_rel"] == pytest.approx(coarse["abs_rel"], rel=0.05)
    assert exact["abs_rel"] != coarse["abs_rel"]
    others = fails(capsys, "--model", f"{OURS}five_metres", *command, "--precision", "bfloat16")
    assert "only our own model predicts under several turns, or in bfloat16" in others


def test_panoramas_without_truth_are_said_to_be_left_out(capsys, tmp_path):
    nothing = encode_depth_png(np.full((8, 16), np.nan, np.float32))
    known = encode_depth_png(layouts.depth_m(1))
    depths = {"a": known, "b": nothing}
    samples = {key: {"jpg": layouts.rgb(1), "depth.png": png, "json": {}} for key, png in depths.items()}
    write_shard(tmp_path / "0.tar", samples)
    command = ["--model", f"{OURS}five_metres", "--dataset", "shards", "--root", tmp_path, "--out", tmp_path / "out"]
    assert main(["evaluate", *map(str, command), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["samples"], document["left_out"]) == (1, 1)
    assert document["abs_rel"] == pytest.approx(np.mean(abs(5 - layouts.depth_m(1)) / layouts.depth_m(1)))
    assert captured.err == f"{tmp_path}: 1 of 2 panoramas have no ground truth at all: left out of the errors\n"
    rows = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    assert [row["abs_rel"] is None for row in rows] == [False, True]
    (tmp_path / "none").mkdir()
    write_shard(tmp_path / "none" / "0.tar", {"b": samples["b"]})
    command[command.index(tmp_path)] = tmp_path / "none"
    assert f"{tmp_path}/none: no ground truth at all in any of its 1 panoramas" in fails(capsys, *command)


def test_truth_without_any_distance_gives_null(capsys, tmp_path):
    sky = encode_depth_png(np.full((8, 16), np.inf, np.float32))
    write_shard(tmp_path / "0.tar", {"a": {"jpg": layouts.rgb(1), "depth.png": sky, "json": {}}})
    command = ["--model", f"{OURS}all_sky", "--dataset", "shards", "--root", tmp_path]
    document = evaluate(capsys, *command)
    assert (document["samples"], document["abs_rel"], document["normals"]["normal_deg"]) == (0, None, None)
    assert main(["evaluate", *map(str, command)]) == 0
    assert "abs_rel" in capsys.readouterr().out


def test_a_relative_model_of_transformers_wants_alignment(capsys, tmp_path, tmp_path_factory):
    LAYOUTS["structured3d"](tmp_path)
    model = tmp_path_factory.mktemp("relative")
    TINY["depth-anything"](model)
    command = ["--model", f"hf:{model}", "--dataset", "structured3d", "--root", tmp_path, "--device", "cpu"]
    assert "which has no metres: the alignment must be disparity, not none" in fails(capsys, *command)
    whole = evaluate(capsys, *command, "--alignment", "disparity")
    patched = evaluate(capsys, *command, "--alignment", "disparity", "--patches", 16)
    assert (whole["output"], whole["alignment"]) == ("relative-disparity", "disparity")
    assert 0 < whole["abs_rel"] != patched["abs_rel"] > 0
    assert set(whole["sphere"]) == {"seam_ratio"}


def test_alignment_takes_a_scale_away(capsys, tmp_path):
    LAYOUTS["structured3d"](tmp_path)
    command = ["--model", f"{OURS}five_metres", "--dataset", "structured3d", "--root", tmp_path, "--alignment"]
    assert evaluate(capsys, *command, "median")["abs_rel"] != evaluate(capsys, *command, "none")["abs_rel"]
    assert "must be none or median or scale-shift, not disparity" in fails(capsys, *command, "disparity")


def test_zeros_count_as_a_millimetre(capsys, tmp_path):
    LAYOUTS["matterport3d"](tmp_path)
    document = evaluate(capsys, "--model", f"{OURS}some_zeros", "--dataset", "matterport3d", "--root", tmp_path)
    prediction_m = np.maximum(some_zeros(layouts.rgb(5)), 1e-3)
    expected = depth_metrics(prediction_m, layouts.depth_m(5), np.ones((8, 16), bool))
    assert document["rmse_log"] == pytest.approx(expected["rmse_log"], rel=1e-6)


def test_what_cannot_be(capsys, tmp_path, own_folder):
    LAYOUTS["stanford2d3d"](tmp_path)
    here = ["--dataset", "stanford2d3d", "--root", tmp_path]
    constant = ["--model", f"{OURS}five_metres"]
    for arguments, message in [
        (["--dataset", "deep360", "--root", tmp_path, *constant], f"{tmp_path}: holds no panorama of deep360"),
        (["--dataset", "deep360", "--root", tmp_path / "no", *constant], "no: no such folder"),
        ([*here, *constant, "--split", "val"], "no panorama of the split 'val'"),
        ([*here, "--model", "nowhere"], "--model nowhere: "),
        ([*here, "--model", "hf:nowhere"], "not a hub id"),
        ([*here, "--model", "python:no.such:f"], "python:no.such:f: "),
        ([*here, *constant, "--patches", 4], "patches: size"),
        ([*here, *constant, "--batch-size", 0], "--batch-size"),
        ([*here, *constant, "--yaw-turns", 4], "only our own model"),
        ([*here, "--yaw-turns", 0], "yaw_turns"),
        ([*here, "--model", f"{OURS}some_nan"], "gives nan for area-"),
        ([*here, "--patches", 32], "our own model sees whole panoramas"),
        ([*here, "--output", "relative-depth"], "gives metric-depth: its output cannot be relative-depth"),
        ([*here, *constant, "--out", tmp_path / "area_1/pano/rgb/camera_3_equirectangular_domain_rgb.png"], "--out"),
    ]:
        assert message in fails(capsys, *arguments)
    depth = tmp_path / "area_5a/pano/depth/camera_4_equirectangular_domain_depth.png"
    depth.write_bytes(depth.read_bytes()[:60])
    assert f"{depth}: damaged" in fails(capsys, *here, *constant)
    assert not list(own_folder.glob("dap-evaluate/*"))
