"""Data sets brought in: a column that training reads, damaged files dropped by code, nothing done twice."""

import pickle
import shutil

import numpy as np
import pytest
import simplejpeg
import yaml

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.sample import Row
from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.stages.ingest import Ingest
from tests.models.datasets import layouts
from tests.models.datasets.layouts import LAYOUTS
from tests.models.datasets.shards import write_shard
from tests.runs import finished, hashes, rows_of


def ingest(dataset: str, root, **settings) -> Ingest:
    return Ingest(**{"source_name": "x", "dataset": dataset, "root": str(root)} | settings)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_becomes_a_labelled_column(name, tmp_path):
    seeds = LAYOUTS[name](tmp_path / "data")
    run = finished(tmp_path / "run", ingest(name, tmp_path / "data"))
    rows = rows_of(run, "labelled-x")
    expected = {layouts.depth_m(seed).tobytes(): layouts.rgb(seed) for seed in seeds}
    assert len(rows) == len(seeds)
    for row in rows.values():
        rgb = expected.pop(decode_depth_png(row["depth.png"]).depth_m.tobytes())
        found = simplejpeg.decode_jpeg(row["jpg"], colorspace="RGB")
        assert abs(found.astype(int) - rgb).mean() < 8
        assert (row["json"]["dataset"], row["json"]["width"], row["json"]["height"]) == (name, 16, 8)
    assert not expected


@pytest.mark.parametrize("name", ["airsim360", "structured3d", "shards"])
def test_an_object_store_gives_the_same_column_as_a_disk(name, tmp_path, s3_uri):
    """Keys and fields are the same; the hash of what was found there is not, as times differ."""
    data = tmp_path / "data"
    if name == "shards":
        data.mkdir()
        for number in range(2):
            fields = {"jpg": layouts.rgb(number), "depth.png": encode_depth_png(layouts.depth_m(number)), "json": {}}
            write_shard(data / f"{number}.tar", {f"{number}": fields})
    else:
        LAYOUTS[name](data)
    upload(data, s3_uri)
    stages = [ingest(name, root, source_name=kind) for kind, root in (("disk", data), ("store", s3_uri))]
    run = finished(tmp_path / "run", *stages)
    assert hashes(run, "labelled-disk") == hashes(run, "labelled-store")
    assert run.receipts("labelled-store")["000000"].samples_out == len(rows_of(run, "labelled-disk"))
    sent = pickle.loads(pickle.dumps(stages[1]))  # noqa: S301 - our own bytes
    assert all(isinstance(row, Row) for row in sent.process(list(sent.source("000000"))))


def upload(folder, uri: str) -> None:
    storage = Storage(uri)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        storage.write_bytes(path.relative_to(folder).as_posix(), path.read_bytes())


def test_a_store_without_the_data_set_is_one_line_that_names_it(tmp_path, s3_uri):
    with pytest.raises(RecipeError, match=r"s3://.*: holds no panorama of structured3d"):
        check_nodes([Node("ingest", ingest("structured3d", s3_uri))])


def test_shards_hold_no_more_than_asked_and_splits_are_those_of_the_set(tmp_path):
    LAYOUTS["structured3d"](tmp_path / "data")
    run = finished(tmp_path / "run", ingest("structured3d", tmp_path / "data", panoramas_per_shard=2))
    assert {shard: r.samples_out for shard, r in run.receipts("labelled-x").items()} == {"000000": 2, "000001": 1}
    assert sorted(row["json"]["split"] for row in rows_of(run, "labelled-x").values()) == ["test", "train", "val"]


def test_one_split_of_it_as_another(tmp_path):
    LAYOUTS["stanford2d3d"](tmp_path / "data")
    run = finished(tmp_path / "run", ingest("stanford2d3d", tmp_path / "data", split="test", as_split="train"))
    ((key, row),) = rows_of(run, "labelled-x").items()
    assert key.startswith("area-5a-pano-rgb-camera-4")
    assert row["json"]["split"] == "train"


def test_damaged_and_missing_files_are_dropped_by_code(tmp_path):
    LAYOUTS["structured3d"](tmp_path / "data")
    depths = sorted((tmp_path / "data").rglob("depth.png"))
    depths[0].write_bytes(depths[0].read_bytes()[:50])
    depths[1].unlink()
    run = finished(tmp_path / "run", ingest("structured3d", tmp_path / "data"))
    receipt = run.receipts("labelled-x")["000000"]
    assert (receipt.samples_out, receipt.drops) == (1, {"bad_depth": 1, "missing_file": 1})


def test_a_smaller_height_keeps_distances_that_are_there(tmp_path):
    folder = tmp_path / "data" / "scene"
    values_m = np.kron(layouts.depth_m(1), np.ones((4, 4), np.float32))
    layouts.write_image(folder / "0_spherical_1_emission_center_0.png", layouts.rgb(1, 32))
    layouts.write_exr(folder / "0_spherical_1_depth_center_0.exr", values_m)
    run = finished(tmp_path / "run", ingest("matterport3d", tmp_path / "data", height=16))
    (row,) = rows_of(run, "labelled-x").values()
    assert simplejpeg.decode_jpeg(row["jpg"]).shape == (16, 32, 3)
    np.testing.assert_array_equal(decode_depth_png(row["depth.png"]).depth_m, values_m[::2, ::2])


def test_the_same_set_elsewhere_is_the_same_and_a_changed_one_is_not(tmp_path):
    LAYOUTS["structured3d"](tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # which keeps times
    run = finished(tmp_path / "run", ingest("structured3d", tmp_path / "one"))
    before = hashes(run, "labelled-x")
    finished(tmp_path / "run", ingest("structured3d", tmp_path / "two"))
    assert run.receipts("labelled-x")["000000"].attempt == 1
    image = sorted((tmp_path / "two").rglob("rgb_rawlight.png"))[0]
    layouts.write_image(image, layouts.rgb(50, 16))
    finished(tmp_path / "run", ingest("structured3d", tmp_path / "two"))
    assert run.receipts("labelled-x")["000000"].attempt == 2
    assert hashes(run, "labelled-x") != before


def test_shards_of_another_run(tmp_path):
    (tmp_path / "data").mkdir()
    sample = {"jpg": layouts.rgb(1), "depth.png": encode_depth_png(layouts.depth_m(1))}
    samples = {"b": sample | {"json": {"split": "test", "scene": "outdoor"}}, "a": sample | {"json": {}}}
    write_shard(tmp_path / "data" / "0.tar", samples)
    run = finished(tmp_path / "run", ingest("shards", tmp_path / "data"))
    rows = rows_of(run, "labelled-x")
    assert {key: (row["json"]["split"], row["json"]["scene"]) for key, row in rows.items()} == {
        "a": ("train", "unknown"),
        "b": ("test", "outdoor"),
    }
    write_shard(tmp_path / "more.tar", {"c": samples["a"]})
    (tmp_path / "more.tar").rename(tmp_path / "data" / "1.tar")
    finished(tmp_path / "run", ingest("shards", tmp_path / "data"))
    assert sorted(rows_of(run, "labelled-x")) == ["a", "b", "c"]
    (tmp_path / "data" / "2.tar").write_bytes((tmp_path / "data" / "1.tar").read_bytes())
    with pytest.raises(RecipeError, match="two panoramas have the key 'c'"):
        check_nodes([Node("ingest", ingest("shards", tmp_path / "data"))])


def test_from_the_command_line(tmp_path, capsys):
    LAYOUTS["structured3d"](tmp_path / "data")
    step = {"step": "ingest", "source_name": "rooms", "dataset": "structured3d", "root": str(tmp_path / "data")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"executor": "in-process", "steps": {"bring": step}}))
    assert main(["run", str(recipe), "--run-dir", str(tmp_path / "run")]) == 0
    assert main(["verify", "--run-dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "labelled-rooms" / "000000.tar").is_file()
    capsys.readouterr()
    command = ["run", str(recipe), "--run-dir", str(tmp_path / "other"), "--set", f"bring.root={tmp_path}/nowhere"]
    assert main(command) == 2
    assert f"{tmp_path}/nowhere: no such folder" in capsys.readouterr().err


def test_a_root_relative_to_where_the_recipe_is_run(tmp_path, monkeypatch):
    """Workers, which get the stage as a pickle, have working folders of their own."""
    LAYOUTS["structured3d"](tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    stage = ingest("structured3d", "data")
    (shard,) = stage.shards()
    sent = pickle.loads(pickle.dumps(stage))  # noqa: S301 - our own bytes
    monkeypatch.chdir("/")
    rows = list(sent.process(list(sent.source(shard))))
    assert len(rows) == 3
    assert all(isinstance(row, Row) for row in rows)


def test_a_root_without_the_set_stops_the_recipe_before_any_work(tmp_path):
    with pytest.raises(RecipeError, match="holds no panorama of deep360"):
        check_nodes([Node("ingest", ingest("deep360", tmp_path))])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "kitti"}, "no data set 'kitti'"),
        ({"panoramas_per_shard": 0}, "at least 1"),
        ({"jpeg_quality": 0}, "jpeg_quality"),
        ({"height": 8}, "height"),
    ],
)
def test_wrong_settings(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ingest(**{"dataset": "deep360", "root": tmp_path} | settings)
