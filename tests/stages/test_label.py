"""Labels: a depth map of its own size for every frame that is one."""

import numpy as np
import pytest
import simplejpeg

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import decode_depth_png, summarise_depth
from dap_engine.models.inference.predictor import DepthPredictor
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.ranking.views import Views
from dap_engine.stages.batches.decoding import decode_image
from dap_engine.stages.label import Label
from tests.runs import FRAMES, Bring, finished, frame, hashes, rows_of

GOOD = [frame("a-00", 0), frame("a-01", 1, height=48), frame("b-00", 2)]
CUT = Row("a-02", {"jpg": GOOD[0].fields["jpg"][:200], "json": {}})
EMPTY = Row("a-03", {"jpg": b"", "json": {}})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("labeler")
    DapModel.new(DapConfig.tiny(image_height=32), seed=3).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    frames = {"000000": [*GOOD[:2], CUT, EMPTY], "000001": GOOD[2:]}
    return finished(tmp_path_factory.mktemp("run"), Bring(FRAMES, frames), Label(model=model, batch_size=2))


def test_every_frame_gets_a_map_of_its_own_size(run):
    rows = rows_of(run, "labels-1")
    maps = {key: decode_depth_png(row["depth.png"]) for key, row in rows.items()}
    assert {key: depth.depth_m.shape for key, depth in maps.items()} == {
        "a-00": (32, 64),
        "a-01": (48, 96),
        "b-00": (32, 64),
    }
    assert all((depth.valid | depth.beyond_range).all() for depth in maps.values())


def test_broken_images_are_dropped_with_a_code(run):
    assert run.receipts("labels-1")["000000"].drops == {"bad_image": 2}
    assert run.receipts("labels-1")["000001"].drops == {}


def test_the_map_is_what_the_model_predicts_for_the_picture(run, model):
    (sample,) = run.samples([run.receipts("frames")["000001"]])
    (prediction,) = DepthPredictor(model, "cpu").predict([decode_image(sample, "frames")])
    label = decode_depth_png(rows_of(run, "labels-1")["b-00"]["depth.png"])
    assert (label.beyond_range == (prediction.beyond_range > 0.5)).all()
    np.testing.assert_allclose(label.depth_m[label.valid], prediction.depth_m[label.valid], atol=1 / 512, rtol=1e-3)


def test_the_json_sums_up_the_map(run):
    for row in rows_of(run, "labels-1").values():
        label, info = decode_depth_png(row["depth.png"]), row["json"]
        near_m = label.depth_m[label.valid]
        assert info["beyond_range"] == pytest.approx(label.beyond_range.mean(), abs=1e-4)
        measured = [info["min_m"], info["median_m"], info["max_m"]]
        assert measured == pytest.approx([near_m.min(), np.median(near_m), near_m.max()], abs=3e-3)


def test_a_sky_alone_has_no_distances():
    assert summarise_depth(np.full((4, 8), np.inf)) == {
        "min_m": None,
        "median_m": None,
        "max_m": None,
        "beyond_range": 1.0,
    }


def test_the_same_bytes_twice(run, model, tmp_path):
    again = finished(tmp_path, Bring(FRAMES, {"000001": GOOD[2:]}), Label(model=model, batch_size=2))
    assert hashes(again, "labels-1")["000001"] == hashes(run, "labels-1")["000001"]


def test_rounds_stand_side_by_side_and_other_weights_label_anew(run, model, tmp_path):
    other = tmp_path / "model"
    DapModel.new(DapConfig.tiny(image_height=32), seed=4).save_pretrained(other)
    frames = Bring(FRAMES, {"000001": GOOD[2:]})
    both = finished(tmp_path / "run", frames, Label(model=model), Label(model=str(other), round=2))
    assert hashes(both, "labels-1") != hashes(both, "labels-2")
    before = both.receipts("labels-1")["000001"]
    moved = finished(tmp_path / "run", frames, Label(model=str(other)))
    assert moved.receipts("labels-1")["000001"].basis.differences(before.basis) == ["weights model changed"]


def test_a_nearer_mask_leaves_out_labels_where_it_is_asked_to(tmp_path):
    config = DapConfig.tiny(image_height=32, range_threshold_m=20.0, initial_beyond_range=0.999)
    DapModel.new(config, seed=3).save_pretrained(tmp_path / "model")
    stages = [Label(model=str(tmp_path / "model"), round=1 + nearer, nearer_mask=nearer) for nearer in (False, True)]
    run = finished(tmp_path / "run", Bring(FRAMES, {"000001": GOOD[2:]}), *stages)
    plain, masked = (decode_depth_png(rows_of(run, f"labels-{n}")["b-00"]["depth.png"]) for n in (1, 2))
    assert plain.valid.all()
    assert masked.valid.mean() < 0.5
    assert not masked.beyond_range.any(), "20 m is within the range of a label"


@pytest.mark.parametrize("model", ["/nowhere/at/all", "run"])
def test_a_model_that_is_nowhere_stops_the_recipe_before_any_work(model):
    with pytest.raises(RecipeError, match=r"step 'label': .*no such folder"):
        check_nodes([Node("label", Label(model=model))])


def two_metres(rgb: np.ndarray) -> np.ndarray:
    """2 m, and beyond the range in the upper row."""
    depth_m = np.full(rgb.shape[:2], 2.0)
    depth_m[0] = np.inf
    return depth_m


def test_a_function_of_one_s_own_labels(tmp_path):
    model = f"python:{__name__}:two_metres"
    run = finished(tmp_path, Bring(FRAMES, {"000000": [GOOD[0]]}), Label(model=model))
    label = decode_depth_png(rows_of(run, "labels-1")["a-00"]["depth.png"])
    assert label.beyond_range[0].all()
    assert (label.depth_m[1:] == 2).all()


def test_a_model_of_transformers_labels_if_it_knows_metres(tmp_path):
    from tests.models.tiny_depth import TINY

    for name in ("depth-anything", "depth-anything-metric"):
        (tmp_path / name).mkdir()
        TINY[name](tmp_path / name)
    frames = Bring(FRAMES, {"000000": [GOOD[0]]})
    label = Label(model=f"hf:{tmp_path / 'depth-anything-metric'}", device="cpu", patches=Patches(size=32))
    run = finished(tmp_path / "run", frames, label)
    assert decode_depth_png(rows_of(run, "labels-1")["a-00"]["depth.png"]).depth_m.shape == (32, 64)
    moved = tmp_path / "moved"
    (tmp_path / "depth-anything-metric").rename(moved)
    finished(tmp_path / "run", frames, Label(model=f"hf:{moved}", device="cpu", patches=Patches(size=32)))
    assert run.receipts("labels-1")["000000"].attempt == 1, "what counts is the content"
    with pytest.raises(RecipeError, match="relative-disparity, which has no metres: it can be evaluated"):
        check_nodes([Node("label", Label(model=f"hf:{tmp_path / 'depth-anything'}"))])


def test_models_of_other_packages_label(published, tmp_path):
    from tests.models.labelers.stand_ins import distance_m, seen

    jpg = simplejpeg.encode_jpeg(seen(64), quality=98, colorsubsampling="444")
    frames = Bring(FRAMES, {"000000": [Row("a-00", {"jpg": jpg, "json": {}})]})
    for scheme in ("unik3d", "dac", "moge", "da3"):
        run = finished(tmp_path / scheme, frames, Label(model=f"{scheme}:{published[scheme]}", device="cpu"))
        label = decode_depth_png(rows_of(run, "labels-1")["a-00"]["depth.png"])
        assert np.median(abs(label.depth_m - distance_m(seen(64)))) < 0.05
        assert run.receipts("labels-1")["000000"].basis.settings["model"] == scheme
    for scheme in ("panda", "depthcrafter"):
        with pytest.raises(RecipeError, match="which has no metres: it can be evaluated"):
            check_nodes([Node("label", Label(model=f"{scheme}:{published[scheme]}"))])
    metric = Label(model=f"panda:{published['panda']}", device="cpu", output="metric-depth")
    run = finished(tmp_path / "panda", frames, metric)
    label = decode_depth_png(rows_of(run, "labels-1")["a-00"]["depth.png"])
    assert np.median(abs(label.depth_m - distance_m(seen(64)))) < 0.05


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("unik3d:a/b", "unik3d:a/b needs the package unik3d, which is not here: pip install git"),
        ("hf:nowhere", "not a hub id"),
        ("python:no.such:f", "no"),
        ("python:numpy", "python:MODULE:FUNCTION"),
        ("python:math:sqrt", "python:math:sqrt: cannot read its source"),
    ],
)
def test_models_of_others_that_are_not_there(model, message):
    with pytest.raises(RecipeError, match=message):
        check_nodes([Node("label", Label(model=model))])


@pytest.mark.parametrize("scheme", ["", "hf:"])
def test_our_own_models_give_metres_and_nothing_else(model, scheme):
    check_nodes([Node("label", Label(model=scheme + model, output="metric-depth"))])
    with pytest.raises(RecipeError, match=r"step 'label': .* gives metric-depth: its output cannot be relative-depth"):
        check_nodes([Node("label", Label(model=scheme + model, output="relative-depth"))])


def test_patches_are_for_models_of_others():
    with pytest.raises(ValueError, match="but embedded sees whole panoramas"):
        Label(patches=Patches())


def test_with_views_the_label_is_their_mean_and_says_how_they_spread(run, model, tmp_path):
    """By hand, from the predictions of the turned and mirrored frame."""
    frames = Bring(FRAMES, {"000000": [GOOD[0]]})
    averaged = finished(tmp_path / "a", frames, Label(model=model, views=Views(yaw=2, flip=True)))
    (sample,) = averaged.samples([averaged.receipts("frames")["000000"]])
    rgb = decode_image(sample, "frames")
    logs, beyond = [], []
    for columns in (1, 35):
        turned = np.roll(rgb, columns, axis=1)
        straight, mirrored = DepthPredictor(model, "cpu").predict([turned, np.ascontiguousarray(turned[:, ::-1])])
        for depth_m, probability in (
            (straight.depth_m, straight.beyond_range),
            (mirrored.depth_m[:, ::-1], mirrored.beyond_range[:, ::-1]),
        ):
            logs.append(np.log(np.roll(depth_m, -columns, axis=1)))
            beyond.append(np.roll(probability, -columns, axis=1))
    row = rows_of(averaged, "labels-1")["a-00"]
    label = decode_depth_png(row["depth.png"])
    assert (label.beyond_range == (np.mean(beyond, axis=0) > 0.5)).all()
    expected_m = np.exp(np.mean(logs, axis=0))
    np.testing.assert_allclose(label.depth_m[label.valid], expected_m[label.valid], atol=1 / 512, rtol=1e-3)
    masked = np.where(np.array(beyond) > 0.5, np.log(100), logs)
    of_label = np.where(label.beyond_range, np.log(100), np.mean(logs, axis=0))
    spread = np.sqrt(np.mean((masked - of_label) ** 2, axis=0)).mean(axis=1)
    weight = np.cos(np.pi / 2 - np.pi * (np.arange(32) + 0.5) / 32)
    assert row["json"]["spread"] == pytest.approx(np.average(spread, weights=weight), abs=1e-4)
    once = rows_of(run, "labels-1")["a-00"]["json"]
    assert row["json"].keys() - once.keys() == {"spread"}


def test_views_have_the_same_bytes_twice(model, tmp_path):
    label = Label(model=model, views=Views(), batch_size=2)
    once, twice = (finished(tmp_path / name, Bring(FRAMES, {"000000": GOOD}), label) for name in "ab")
    assert hashes(once, "labels-1") == hashes(twice, "labels-1")


def test_views_are_for_models_of_others_too(tmp_path):
    label = Label(model=f"python:{__name__}:two_metres", views=Views())
    run = finished(tmp_path, Bring(FRAMES, {"000000": [GOOD[0]]}), label)
    row = rows_of(run, "labels-1")["a-00"]
    assert decode_depth_png(row["depth.png"]).beyond_range[0].all()
    assert (decode_depth_png(row["depth.png"]).depth_m[1:] == 2).all()
    assert row["json"]["spread"] == 0
