"""`dap plan`: what would run and why, at any scale; and what it will take, found out by trying."""

import json

import pytest

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.__main__ import main

STEPS = [
    "simulate-outdoor",
    "simulate-indoor",
    "labeler-1",
    "extract",
    "tag",
    "label-1",
    "discriminator",
    "select-1",
    "dap",
]
NOWHERE = "s3://footage/videos?region=us-east-1&scheme=http&endpoint_override=127.0.0.1%3A1"
FILMED = """
executor: in-process
steps:
  film: {step: film, videos: 5, height: 32, seconds: 1, fps: 2}
  plan: {step: plan, videos: "run:footage", videos_per_shard: 2}
  extract: {step: extract, height: 32, every_s: 0.5}
"""


@pytest.mark.slow
def test_the_recipe_at_full_scale_is_whole(capsys, tmp_path, footage):
    assert main(["plan", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={footage}"]) == 0
    rows = {
        cells[1].strip(): cells for line in capsys.readouterr().out.splitlines() if len(cells := line.split("│")) > 7
    }
    assert set(STEPS) <= set(rows)
    assert [cell.strip() for cell in rows["simulate-outdoor"][5:7]] == ["180", "180"]
    assert not (tmp_path / "run").exists()


def test_footage_out_of_reach_is_said_not_fatal(capsys, tmp_path):
    assert main(["plan", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={NOWHERE}"]) == 0
    assert "network connection" in capsys.readouterr().out
    assert main(["run", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={NOWHERE}"]) == 2
    assert "step 'plan': videos: s3://footage/videos" in capsys.readouterr().err


@pytest.fixture(scope="module")
def curated(footage, tmp_path_factory):
    """A run of `curate` and the arguments that name it."""
    place = tmp_path_factory.mktemp("curated") / "run"
    settings = [f"videos={footage}", "executor=in-process", "extract.height=96", "extract.every_s=1"]
    job = ["curate", "--run-dir", str(place), *(word for setting in settings for word in ("--set", setting))]
    assert main(["run", *job]) == 0
    return RunDir(str(place)), job


@pytest.mark.slow
def test_a_probe_foretells_the_run(capsys, curated, tmp_path):
    run, job = curated
    foretold = plan_of(capsys, *job, "--probe", "--run-dir", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    stages, total = foretold["probe"]["stages"], foretold["probe"]["total"]
    assert list(stages) == ["extract", "tag", "label"]
    assert (foretold["probe"]["not_probed"], foretold["probe"]["not_predicted"]) == ({}, ["plan"])
    for name, column, size_within in (("extract", "frames", 0.3), ("tag", "tags", 2.0), ("label", "labels-1", 0.3)):
        receipts = list(run.receipts(column).values())
        assert stages[name]["shards"] == len(receipts) == 2
        assert stages[name]["samples_in"] == sum(receipt.samples_in for receipt in receipts)
        assert stages[name]["samples_out"] == sum(receipt.samples_out for receipt in receipts)
        assert stages[name]["bytes"] == pytest.approx(sum(r.output.bytes for r in receipts), rel=size_within)
        assert stages[name]["probed"]["sample_s"] > 0
        assert stages[name]["peak_bytes"] > 50 << 20
    working_s = sum(stage["shards"] * stage["shard_s"] for stage in stages.values())
    assert total["wall_s"] == pytest.approx(working_s + max(stage["set_up_s"] for stage in stages.values()))
    assert total["bytes"] == sum(stage["bytes"] for stage in stages.values())


def plan_of(capsys, *arguments: str) -> dict:
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_says_what_changed_and_for_how_many_shards(capsys, curated):
    _, job = curated
    assert {step["to_do"] for step in plan_of(capsys, *job)["steps"]} == {0}
    steps = {step["step"]: step for step in plan_of(capsys, *job, "--set", "tag.threshold=0.7")["steps"]}
    assert (steps["tag"]["to_do"], steps["tag"]["reasons"]) == (2, {"setting threshold changed": 2})
    assert (steps["label"]["to_do"], steps["label"]["reasons"]) == (0, {})


@pytest.mark.slow
def test_a_probe_leaves_a_finished_run_as_it_is_and_sees_what_new_videos_add(capsys, curated, footage, tmp_path):
    run, job = curated
    before = run.storage.entries("")
    for video in footage.rglob("*.mp4"):
        (tmp_path / video.parent.name).mkdir()
        (tmp_path / video.parent.name / video.name).symlink_to(video)
    (tmp_path / "one-more.mp4").write_bytes(next(footage.rglob("*.mp4")).read_bytes())
    assert main(["plan", *job, "--set", f"videos={tmp_path}", "--only", "plan,extract", "--probe"]) == 0
    rows = {
        cells[1].strip(): cells for line in capsys.readouterr().out.splitlines() if len(cells := line.split("│")) > 9
    }
    assert [cell.strip() for cell in rows["extract"][4:6]] == ["1", "1 → 6"]
    assert run.storage.entries("") == before


@pytest.mark.slow  # a Ray of its own; that a run is refused so is in the fast suite
def test_what_the_cluster_cannot_give_is_refused_before_anything_is_tried(capsys, footage, tmp_path):
    settings = ["--set", f"videos={footage}", "--set", "label.pool.num_gpus=64"]
    assert main(["plan", "curate", "--run-dir", str(tmp_path / "run"), *settings, "--probe"]) == 2
    error = capsys.readouterr().err
    assert "step 'label' needs 0.5 CPU and 64 GPU; the cluster has" in error
    assert "probing" not in error


@pytest.mark.slow
def test_footage_that_the_run_has_still_to_make_is_stood_in_for(dap, tmp_path):
    recipe = tmp_path / "filmed.yaml"
    recipe.write_text(FILMED)
    planned = dap("plan", recipe, "--run-dir", tmp_path / "run", "--probe", "--json")
    assert planned.returncode == 0, planned.stderr
    stages = json.loads(planned.stdout)["probe"]["stages"]
    counts = {name: (stage["shards"], stage["samples_in"], stage["samples_out"]) for name, stage in stages.items()}
    assert counts == {"film": (5, 5, 5), "extract": (3, 5, 10)}
    assert not (tmp_path / "run").exists()


def test_a_plan_tells_of_shards_that_a_run_will_remove(capsys, tmp_path):
    recipe, place = tmp_path / "filmed.yaml", tmp_path / "run"
    recipe.write_text(FILMED)
    job = [str(recipe), "--run-dir", str(place), "--only", "film"]
    assert main(["run", *job]) == 0
    capsys.readouterr()
    (film,) = plan_of(capsys, *job, "--set", "film.videos=3")["steps"]
    assert (film["shards"], film["to_remove"]) == (3, 2)
    assert len(list((place / "receipts" / "footage").glob("*.json"))) == 5
    assert main(["run", *job, "--set", "film.videos=3"]) == 0
    assert len(list((place / "receipts" / "footage").glob("*.json"))) == 3
