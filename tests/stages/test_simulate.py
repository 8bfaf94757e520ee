"""Simulated panoramas: a shard depends on itself alone, and no scene is in two splits."""

from collections import defaultdict

import numpy as np
import pytest
import simplejpeg
import trimesh

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.steps.step import StageContext
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.data.depth_png import decode_depth_png
from dap_engine.stages.simulate import Simulate
from tests.runs import failure, finished, hashes, rows_of

SMALL = {"source_name": "sim", "height": 16, "views_per_scene": 2, "seed": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), Simulate(panoramas=10, panoramas_per_shard=4, **SMALL))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mesh") / "room.ply"
    trimesh.creation.box([6.0, 4.0, 3.0]).export(path)
    return str(path)


def test_every_panorama_comes_with_its_depth_and_what_it_shows(run):
    assert {shard: receipt.samples_out for shard, receipt in run.receipts("labelled-sim").items()} == {
        "000000": 4,
        "000001": 4,
        "000002": 2,
    }
    rows = rows_of(run, "labelled-sim")
    assert len(rows) == 10
    for row in rows.values():
        info, depth = row["json"], decode_depth_png(row["depth.png"])
        assert simplejpeg.decode_jpeg(row["jpg"]).shape == (16, 32, 3)
        assert (depth.depth_m.shape, info["width"], info["height"]) == ((16, 32), 32, 16)
        assert (depth.valid | depth.beyond_range).all()
        assert info["scene"] in ("indoor", "outdoor")
        assert info["split"] in ("train", "val", "test")


@pytest.mark.parametrize("shard", ["000001", "000002"])
def test_a_shard_made_alone_has_the_same_bytes(run, shard, tmp_path):
    stage = Simulate(panoramas=10, panoramas_per_shard=4, **SMALL)
    stage.setup(StageContext(Storage("/")))
    writer = stage.writes.writer(tmp_path)
    for row in stage.process(list(stage.source(shard))):
        writer.add(row)
    stored = run.storage.read_bytes(run.receipts("labelled-sim")[shard].output.path)
    assert writer.finish().read_bytes() == stored


def test_panoramas_do_not_depend_on_how_many_a_shard_holds(run, tmp_path):
    coarse = finished(tmp_path, Simulate(panoramas=8, panoramas_per_shard=8, **SMALL))
    expected = list(rows_of(run, "labelled-sim").items())[:8]
    assert list(rows_of(coarse, "labelled-sim").items()) == expected


def test_another_seed_or_look_shows_something_else(run, tmp_path):
    seen = [hashes(run, "labelled-sim")["000002"]]
    for name, change in (("a", {"seed": 4}), ("b", {"look": "field"})):
        other = finished(tmp_path / name, Simulate(panoramas=2, panoramas_per_shard=2, **SMALL | change))
        seen.append(hashes(other, "labelled-sim")["000000"])
    assert len(set(seen)) == 3


def test_views_of_a_scene_share_a_split_and_the_shares_are_kept(tmp_path):
    stage = Simulate(panoramas=2, validation_share=0.2, test_share=0.3, **SMALL)
    splits = [stage._split_of(f"synthetic_3_{number:06d}") for number in range(2000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.04)
    run = finished(tmp_path, Simulate(panoramas=12, validation_share=0.3, test_share=0.3, **SMALL))
    by_scene = defaultdict(list)
    for row in rows_of(run, "labelled-sim").values():
        by_scene[row["json"]["scene_id"]].append(row["json"]["split"])
    assert [len(splits) for splits in by_scene.values()] == [2] * 6
    assert all(len(set(splits)) == 1 for splits in by_scene.values())
    assert len({splits[0] for splits in by_scene.values()}) > 1


@pytest.mark.parametrize(("share", "split"), [(1.0, "test"), (0.0, "train")])
def test_all_in_one_split(tmp_path, share, split):
    stage = Simulate(panoramas=2, validation_share=0.0, test_share=share, **SMALL)
    assert {row["json"]["split"] for row in rows_of(finished(tmp_path, stage), "labelled-sim").values()} == {split}


def test_views_of_a_mesh_are_inside_it_and_do_not_depend_on_the_shards(room, tmp_path):
    fine = finished(tmp_path / "a", Simulate(panoramas=4, panoramas_per_shard=2, mesh=room, **SMALL))
    coarse = finished(tmp_path / "b", Simulate(panoramas=4, panoramas_per_shard=4, mesh=room, **SMALL))
    rows = rows_of(fine, "labelled-sim")
    assert rows == rows_of(coarse, "labelled-sim")
    positions = []
    for row in rows.values():
        depth = decode_depth_png(row["depth.png"])
        assert depth.valid.all()
        assert depth.depth_m.max() < np.hypot(np.hypot(6, 4), 3)
        positions.append(tuple(row["json"]["position_m"]))
    assert len(set(positions)) == 4


def test_another_mesh_is_simulated_anew(room, tmp_path):
    finished(tmp_path, Simulate(panoramas=2, mesh=room, **SMALL))
    other = tmp_path / "other.ply"
    trimesh.creation.box([3.0, 3.0, 3.0]).export(other)
    run = finished(tmp_path, Simulate(panoramas=2, mesh=str(other), **SMALL))
    assert run.receipts("labelled-sim")["000000"].attempt == 2


def test_a_mesh_that_is_nowhere_stops_the_recipe_before_any_work(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.ply: no such"):
        check_nodes([Node("simulate", Simulate(panoramas=2, mesh=str(tmp_path / "nowhere.ply"), **SMALL))])


def test_a_mesh_that_cannot_be_read_fails_with_its_name(tmp_path):
    (tmp_path / "broken.ply").write_bytes(b"ply no")
    error = failure(tmp_path / "run", Simulate(panoramas=2, mesh=str(tmp_path / "broken.ply"), **SMALL))
    assert "broken.ply" in error.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"panoramas": 0}, "at least 1"),
        ({"panoramas_per_shard": 0}, "at least 1"),
        ({"panoramas_per_shard": 5}, r"panoramas_per_shard \(5\) must be a multiple of views_per_scene"),
        ({"height": 0}, "height"),
        ({"test_share": 0.8, "validation_share": 0.4}, "share"),
        ({"test_share": -0.1}, "share"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
    ],
)
def test_wrong_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Simulate(**{"panoramas": 2, **SMALL} | change)
