"""The recipes of the literature in miniature, with tiny networks, from the command line."""

import json
from pathlib import Path

import pytest

from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.jobs.job import read_recipe
from dap_engine.jobs.steps import STEPS
from dap_engine.models.network.dap import DapConfig, DapModel
from tests.jobs.packed import HEIGHT, TINY
from tests.models.datasets.layouts import LAYOUTS

RECIPES = ("dap2m", "depth-anything-v1", "depth-anything-v2", "finetune", "distil", "ablation")
SIMULATED = {
    "simulate.panoramas": 32,
    "simulate.panoramas_per_shard": 16,
    "simulate.height": HEIGHT,
    "simulate.test_share": 0.3,
    "simulate.validation_share": 0.2,
}
FOOTAGE = {"extract.height": 64, "extract.every_s": 1.0, "plan.validation_share": 0.3}
CPU = "{accelerator: cpu}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name):
    assert load_recipe(read_recipe(name), STEPS).name == name


def test_arms_are_steps_of_their_own():
    nodes = {node.name: node.step for node in load_recipe(read_recipe("ablation"), STEPS).nodes}
    assert len([name for name in nodes if name.startswith(("losses-", "distortion-", "mask-"))]) == (5 + 2 + 5) * 3
    assert len(nodes["compare-masks"].models) == 15
    assert nodes["mask-20m-3"].network.config["range_threshold_m"] == 20
    assert not nodes["distortion-without-1"].training.distortion_map


def small(*steps: str, **settings: object) -> dict[str, object]:
    """Trainings of a step or two."""
    return {f"{step}.training.{name}": value for step in steps
            for name, value in {"steps": 2, "warmup_steps": 1, **settings}.items()} | {
        f"{step}.{name}": value for step in steps for name, value in (
            ("batches.image_height", HEIGHT), ("batches.batch_size", 3), ("batches.num_workers", 0), ("hardware", CPU),
        )
    }  # fmt: skip


def network(**config: object) -> str:
    return json.dumps({"config": {**TINY, **config}})


def run(dap, folder: Path, recipe: str, settings: dict[str, object]) -> str:
    """What it says; a second time there is nothing to do."""
    words = [
        word for name, value in {"executor": "in-process", **settings}.items() for word in ("--set", f"{name}={value}")
    ]
    done = dap("run", recipe, "--run-dir", folder, *words)
    assert done.returncode == 0, done.stderr
    assert "up to date: nothing to do" in dap("run", recipe, "--run-dir", folder, *words).stderr
    return done.stderr


def figures(folder: Path, report: str = "evaluation", name: str = "evaluation") -> dict:
    return json.loads((folder / "reports" / report / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A backbone as wide as the tiny network's, of other weights."""
    folder = tmp_path_factory.mktemp("encoder")
    DapModel.new(DapConfig.tiny(**TINY), seed=9).backbone.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["depth-anything-v1", "depth-anything-v2"])
def test_depth_anything(name, dap, footage, encoder, tmp_path):
    tiny = dict.fromkeys(("teacher.network", "student.network"), network(range_threshold_m=None))
    settings = {**SIMULATED, **FOOTAGE, **small("teacher", "student"), **tiny, "videos": footage}
    run(dap, tmp_path / "run", name, settings | {"student.frozen_encoder": encoder})
    assert set(figures(tmp_path / "run")) == {"blind", "teacher", "student"}
    metrics = (tmp_path / "run" / "models" / "student" / "training" / "metrics.csv").read_text()
    columns = metrics.splitlines()[0].split(",")
    assert {"train/affine_invariant", "train/features"} <= set(columns)
    assert ("train/gradient_matching" in columns) == (name == "depth-anything-v2")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_distil(dap, footage, tmp_path):
    settings = {**FOOTAGE, **small("student"), "student.network": network(), "videos": footage}
    said = run(dap, tmp_path / "run", "distil", settings)
    found = figures(tmp_path / "run")
    assert found["teacher"]["held-out videos"]["abs_rel"] < found["student"]["held-out videos"]["abs_rel"]
    assert "panoramas/s" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_finetune(dap, tmp_path):
    LAYOUTS["structured3d"](tmp_path / "own")
    DapModel.new(DapConfig.tiny(**TINY), seed=1).save_pretrained(tmp_path / "before")
    settings = {
        "own.root": tmp_path / "own",
        "own.height": HEIGHT,
        "finetuned.init": tmp_path / "before",
        **small("finetuned"),
        "finetuned.batches.batch_size": 1,
        "evaluate.models.before": tmp_path / "before",
    }
    run(dap, tmp_path / "run", "finetune", settings)
    found = figures(tmp_path / "run")
    assert found["before"]["own"]["abs_rel"] != found["after"]["own"]["abs_rel"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ablation(dap, tmp_path):
    kinds = ("losses", "distortion", "mask", "mask-none")
    seeds = {f"{kind}.each.seed": "[1, 2]" for kind in kinds}
    tiny = {f"{kind}.network": network() for kind in kinds[:2]}
    tiny |= {
        "mask.network": network(range_threshold_m="${each.arm}"),
        "mask-none.network": network(range_threshold_m=None),
    }
    run(dap, tmp_path / "run", "ablation", {**SIMULATED, **small(*kinds), **seeds, **tiny})
    masks = figures(tmp_path / "run", "masks", "comparison")
    assert sorted(masks["data"]["synthetic"]["all"]["abs_rel"]) == ["100m", "10m", "20m", "50m", "none"]
    assert masks["seeds"] == ["1", "2"]
    by_distance = figures(tmp_path / "run", "masked-by-distance")
    assert by_distance["mask-10m-1"]["synthetic"]["range_threshold_m"] == 10
    assert (tmp_path / "run" / "reports" / "losses" / "table.txt").read_text().count("dense-fidelity") > 0
