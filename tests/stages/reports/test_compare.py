"""Models of several arms and seeds, compared on the same panoramas."""

import json

import numpy as np
import pytest

from dap_engine.engine.planning.recipe import RecipeError, load_recipe
from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.jobs.steps import STEPS
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.stages.reports.compare import Compare
from tests.runs import Bring, finished, jpeg, noise_depth_m


def labelled() -> Bring:
    rows = []
    for number in range(6):
        depth_m = noise_depth_m(number) if number < 5 else np.full((32, 64), np.inf, np.float32)
        info = {"scene": ("indoor", "outdoor")[number % 2], "split": "test"}
        rows.append(Row(f"p-{number}", {"jpg": jpeg(number), "depth.png": encode_depth_png(depth_m), "json": info}))
    return Bring(TarColumn("labelled-x", ("depth.png", "jpg", "json")), {"000000": rows})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    names = [f"student-{arm}-{seed}" for arm in ("none", "top-k") for seed in (1, 2)]
    for number, name in enumerate(names):
        DapModel.new(DapConfig.tiny(image_height=32), seed=number % 3).save_pretrained(folder / name)
    return {name: str(folder / name) for name in names}


def test_arms_are_compared_by_scene_with_the_same_figures_in_other_batches(tmp_path, models):
    steps = [
        Compare(models, {"x": "labelled-x"}, "none", report=f"r{size}", batch_size=size, device="cpu")
        for size in (2, 5)
    ]
    run = finished(tmp_path, labelled(), *steps)
    figures, again = (json.loads(run.storage.read_bytes(f"reports/r{size}/comparison.json")) for size in (2, 5))
    assert (figures["control"], figures["seeds"]) == ("none", ["1", "2"])
    assert {scene: of["n"] for scene, of in figures["data"]["x"].items()} == {"all": 5, "indoor": 3, "outdoor": 2}
    arms = figures["data"]["x"]["all"]["abs_rel"]
    assert list(arms) == ["none", "top-k"]
    low, high = arms["top-k"]["interval"]
    assert low <= arms["top-k"]["difference"] <= high
    assert arms["top-k"]["difference"] == pytest.approx(arms["top-k"]["mean"] - arms["none"]["mean"])
    assert again["data"]["x"]["all"]["abs_rel"]["top-k"]["mean"] == pytest.approx(arms["top-k"]["mean"], rel=1e-5)
    assert run.storage.read_bytes("reports/r2/differences.png").startswith(b"\x89PNG")
    assert "top-k" in run.storage.read_bytes("reports/r2/table.txt").decode()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a-none-1", "a-all-1"], "the control 'nothing' is none of the arms"),
        (["a-nothing-1", "a-all-1", "a-all-2"], "different seeds"),
    ],
)
def test_what_cannot_be_compared_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        Compare(dict.fromkeys(names, "m"), {"x": "labelled-x"}, "nothing")


def test_in_a_recipe_the_arms_are_all_of_a_step():
    text = """
steps:
  simulate: {step: simulate, source_name: sim, panoramas: 4, panoramas_per_shard: 4, height: 32}
  pack: {step: pack, train: "${each.arm}", each: {arm: [none, all]}, sources: [{images: labelled-sim}]}
  student: {step: train, each: {arm: [none, all], seed: [1, 2]}, model: "s-${each.arm}-${each.seed}",
            data: "train-${each.arm}", training: {steps: 1}}
  compare: {step: compare, models: "${all.student}", control: none, data: {sim: labelled-sim}}
"""
    (*_, compare) = load_recipe(text, STEPS).nodes
    assert next(iter(compare.step.models.items())) == ("student-none-1", "run:models/s-none-1")
    with pytest.raises(RecipeError, match="the control 'nix' is none of the arms"):
        load_recipe(text, STEPS, ["compare.control=nix"])
