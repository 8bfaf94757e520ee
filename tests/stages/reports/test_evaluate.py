"""Evaluation: figures against a calculation by hand, and a table and a picture beside them."""

import io
import json
import weakref

import numpy as np
import pytest
from PIL import Image

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.models.geometry.patches import image_plane
from dap_engine.models.inference.predictor import DepthPredictor
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.stages.batches.decoding import decode_image
from dap_engine.stages.pack import Pack, Source
from dap_engine.stages.reports.evaluate import Evaluate, format_table
from dap_engine.stages.reports.labelled import decode_labelled
from tests.jobs.packed import TINY
from tests.models.tiny_depth import TINY as TINY_DEPTH
from tests.runs import Bring, failure, finished, jpeg

H, W = 16, 32


def flat(distance_m: float) -> np.ndarray:
    return np.full((H, W), distance_m, np.float32)


def row(key: str, depth_m: np.ndarray, split: str, scene: str | None) -> Row:
    info = {"split": split} | ({"scene": scene} if scene else {})
    return Row(key, {"jpg": jpeg(int(key[-1]), H), "depth.png": encode_depth_png(depth_m), "json": info})


def labelled(held_out: list[Row], split: str = "train") -> Bring:
    """Two rooms of 2 m and a street of 10 m to learn from, and what is held out."""
    known = [row("a-0", flat(1.5), split, "indoor"), row("a-1", flat(2.5), split, "indoor")]
    known.append(row("a-2", flat(10), split, "outdoor"))
    return Bring(TarColumn("labelled-x", ("depth.png", "jpg", "json")), {"000000": known, "000001": held_out})


def two() -> list[Row]:
    """A room of 4 m with a hole in its truth, and a street of 8.5 m whose upper quarter is sky."""
    room, street = flat(4), flat(8.5)
    room[3:5, 7:9] = np.nan
    street[: H // 4] = np.inf
    return [row("t-0", room, "test", "indoor"), row("t-1", street, "test", "outdoor")]


def pack() -> Pack:
    return Pack(train="x", sources=[Source("labelled-x")])


def evaluate(models: dict[str, str] | None = None, **settings) -> Evaluate:
    return Evaluate(**{"models": models or {}, "data": {"held out": "labelled-x"}, "blind": "train-x"} | settings)


def report(run, name: str) -> bytes:
    return run.storage.read_bytes(f"reports/evaluation/{name}")


def figures_of(run) -> dict:
    def refuse(constant: str):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(report(run, "evaluation.json"), parse_constant=refuse)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    DapModel.new(DapConfig.tiny(**TINY), seed=2).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), labelled(two()), pack(), evaluate({"tiny": model}))


def test_the_blind_predictor_s_figures_by_hand(run):
    """It says 2 m indoors and 10 m outdoors, everywhere, and never that anything is beyond the range."""
    blind = figures_of(run)["blind"]["held out"]
    assert blind["samples"] == 2
    assert blind["abs_rel"] == pytest.approx((2 / 4 + 1.5 / 8.5) / 2, abs=1e-6)
    assert blind["rmse"] == pytest.approx((2 + 1.5) / 2, abs=1e-6)
    assert blind["delta1"] == pytest.approx((0 + 1) / 2)
    assert blind["range_iou"] == 0


def test_a_model_s_figures_by_hand(run, model):
    samples = list(run.samples([run.receipts("labelled-x")["000001"]]))
    rgbs = [decode_image(sample, "labelled-x") for sample in samples]
    predictions = DepthPredictor(model, "cpu").predict(rgbs)
    truths = [decode_depth_png(sample["labelled-x"]["depth.png"]) for sample in samples]
    errors, close, both, either = [], [], 0, 0
    for prediction, truth in zip(predictions, truths, strict=True):
        predicted_m, true_m = prediction.depth_m[truth.valid], truth.depth_m[truth.valid]
        errors.append(np.mean(abs(predicted_m - true_m) / true_m))
        close.append(np.mean(np.maximum(predicted_m / true_m, true_m / predicted_m) < 1.25))
        said = prediction.beyond_range > 0.5
        known = truth.valid | truth.beyond_range
        both += (said & truth.beyond_range).sum()
        either += ((said | truth.beyond_range) & known).sum()
    found = figures_of(run)["tiny"]["held out"]
    assert found["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["delta1"] == pytest.approx(np.mean(close))
    assert found["range_iou"] == pytest.approx(both / either)


def test_the_table_and_the_picture_show_every_model(run):
    table = report(run, "table.txt").decode().splitlines()
    assert [line.split()[0] for line in table[2:4]] == ["blind", "tiny"]
    assert table[2].split()[1:] == ["0.3382", "0.5000", "0.0000"]
    assert table[5].startswith("held out: AbsRel by distance | with the range mask")
    assert table[7].split() == ["blind", "0.3607", "|", "0.3607", "(100.0%)", "-", "-", "-"]
    picture = Image.open(io.BytesIO(report(run, "examples.png")))
    assert picture.width / picture.height == pytest.approx(3 * 3.2 / (2 * 1.75), rel=0.05)


def test_the_same_bytes_twice_and_no_work_twice(run, model, tmp_path):
    again = finished(tmp_path, labelled(two()), pack(), evaluate({"tiny": model}))
    assert again.receipts("reports")["evaluation"].output.sha256 == run.receipts("reports")["evaluation"].output.sha256
    once_more = finished(tmp_path, labelled(two()), pack(), evaluate({"tiny": model}))
    assert once_more.receipts("reports")["evaluation"].attempt == 1


def four_metres(rgb: np.ndarray) -> np.ndarray:
    """4 m away wherever it looks, told along the axis of a view of 90°."""
    return 4 / image_plane(rgb.shape[:2], fov_deg=90).norm(dim=-1).numpy()


def test_models_of_others_stand_beside_ours(model, tmp_path):
    relative = tmp_path / "relative"
    relative.mkdir()
    TINY_DEPTH["depth-anything"](relative)
    models = {"tiny": model, "four": f"python:{__name__}:four_metres", "relative": f"hf:{relative}"}
    step = evaluate(models, alignments={"relative": "disparity"}, patches=Patches(size=16))
    figures = figures_of(finished(tmp_path / "run", labelled(two()), pack(), step))
    assert list(figures) == ["blind", *models]
    four = figures["four"]["held out"]
    assert four["abs_rel"] == pytest.approx((0 + 4.5 / 8.5) / 2, abs=1e-3)
    assert (four["range_iou"], figures["relative"]["held out"]["alignment"]) == (None, "disparity")
    unaligned = Node("evaluate", evaluate(models))
    with pytest.raises(RecipeError, match="relative gives relative-disparity, which has no metres"):
        check_nodes([unaligned])


def test_panoramas_without_truth_are_counted_and_change_nothing_else(run, tmp_path):
    more = [*two(), row("t-2", flat(np.nan), "test", "indoor")]
    figures, before = (
        figures_of(one)["blind"]["held out"] for one in (finished(tmp_path, labelled(more), pack(), evaluate()), run)
    )
    assert (figures.pop("left_out"), before.pop("left_out")) == (1, 0)
    assert figures == before


def some_nan(rgb: np.ndarray) -> np.ndarray:
    return np.where(np.arange(rgb.shape[1]) < 3, np.nan, four_metres(rgb))


def broken(rgb: np.ndarray) -> np.ndarray:
    raise KeyError("depth")


@pytest.mark.parametrize(("function", "message"), [("some_nan", "gives nan for t-0"), ("broken", "raised KeyError")])
def test_a_model_that_fails_is_one_line(tmp_path, function, message):
    error = failure(tmp_path, labelled(two()), pack(), evaluate({"bad": f"python:{__name__}:{function}"}))
    assert error.startswith("bad: ")
    assert message in error
    assert "\n" not in error


def test_one_batch_of_panoramas_is_held_at_a_time(tmp_path, monkeypatch):
    decoded, alive = [], []

    def decode(row: Row):
        item = decode_labelled(row)
        decoded.append(weakref.ref(item))
        alive.append(sum(reference() is not None for reference in decoded))
        return item

    monkeypatch.setattr("dap_engine.stages.reports.evaluate.decode_labelled", decode)
    many = [row(f"t-{number}", flat(3 + number), "test", "indoor") for number in range(9)]
    step = evaluate({"four": f"python:{__name__}:four_metres"}, batch_size=2)
    run = finished(tmp_path, labelled(many), pack(), step)
    assert figures_of(run)["four"]["held out"]["samples"] == len(many)
    assert len(decoded) == 2 * len(many), "once for the blind predictor, once for the model"
    assert max(alive) <= 2 * 2  # a batch goes when the next one is whole


def test_figures_do_not_depend_on_the_batch(run, model, tmp_path):
    one = finished(tmp_path, labelled(two()), pack(), evaluate({"tiny": model}, batch_size=1))
    for found, expected in zip(figures_of(one).values(), figures_of(run).values(), strict=True):
        assert found["held out"]["abs_rel"] == pytest.approx(expected["held out"]["abs_rel"], rel=1e-5)


def test_our_models_are_measured_in_float32_unless_told(run, model, tmp_path):
    coarse = finished(tmp_path, labelled(two()), pack(), evaluate({"tiny": model}, precision="bfloat16"))
    figures = [figures_of(one)["tiny"]["held out"]["abs_rel"] for one in (run, coarse)]
    assert figures[0] != figures[1]
    assert figures[0] == pytest.approx(figures[1], rel=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": {"tiny": "relative-depth"}}, "gives metric-depth: its output cannot be relative-depth"),
        ({"models": {"root": "python:math:sqrt"}}, "python:math:sqrt: cannot read its source"),
    ],
)
def test_what_makes_no_sense_is_told_before_any_work(model, settings, message):
    with pytest.raises(RecipeError, match=message):
        check_nodes([Node("evaluate", evaluate(**({"models": {"tiny": model}} | settings)))])


def test_settings_for_a_model_that_is_none():
    with pytest.raises(ValueError, match="name 'tinny', which is none of the models"):
        evaluate({"tiny": "x"}, alignments={"tinny": "median"})


def test_a_split_that_nobody_has_is_one_clear_line(tmp_path):
    error = failure(tmp_path, labelled(two()), pack(), evaluate(split="final"))
    assert error == "labelled-x has no panorama of the split 'final'"


def test_nothing_to_be_blind_from_is_one_clear_line(tmp_path):
    error = failure(tmp_path, labelled(two(), split="val"), pack(), evaluate())
    assert error == "blind predictor on train-x: nothing to learn the mean depth of a row from"


def test_truth_that_is_sky_alone_has_no_distances_but_a_range(tmp_path):
    run = finished(tmp_path, labelled([row("t-0", flat(np.inf), "test", "outdoor")]), pack(), evaluate())
    figures = figures_of(run)["blind"]["held out"]
    assert (figures["abs_rel"], figures["spherical"]["delta1"], figures["range_iou"]) == (None, None, 0)
    assert report(run, "table.txt").decode().splitlines()[2].split() == ["blind", "-", "-", "0.0000"]


def test_a_panorama_of_no_scene_type_is_measured_too(tmp_path):
    """A user's own labelled panoramas need not say indoor or outdoor."""
    run = finished(tmp_path, labelled([row("t-0", flat(6), "test", None)]), pack(), evaluate())
    assert figures_of(run)["blind"]["held out"]["abs_rel"] == pytest.approx(0, abs=1e-6)  # the mean of 2 m and 10 m


def test_several_sets_stand_side_by_side():
    good, poor = {"abs_rel": 0.1, "delta1": 1.0, "range_iou": 0.75}, {"abs_rel": 12.0, "delta1": 0.25}
    figures = {"blind": {"one": poor, "two": good}, "a-model-of-a-long-name": {"one": good, "two": poor}}
    sets, titles, blind, model = format_table(figures).splitlines()
    assert sets.split() == ["one", "two"]
    assert titles.split() == ["AbsRel", "delta1", "range", "IoU"] * 2
    assert blind.split() == ["blind", "12.0000", "0.2500", "-", "0.1000", "1.0000", "0.7500"]
    assert model.split() == ["a-model-of-a-long-name", "0.1000", "1.0000", "0.7500", "12.0000", "0.2500", "-"]
    assert len({len(line) for line in (titles, blind, model)}) == 1
