"""The demo recipe in miniature, from the command line: every column, once, readable by anyone; on Ray the same."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dap_engine.jobs.__main__ import main
from tests.jobs.conftest import content_hashes

REPOSITORY = Path(__file__).resolve().parents[2]
MINIATURE = {
    "simulate.panoramas": 24,
    "simulate.panoramas_per_shard": 8,
    "simulate.test_share": 0.3,
    "simulate.validation_share": 0.2,
    "field.panoramas": 8,
    "field.panoramas_per_shard": 8,
    "footage.videos": 4,
    "footage.seconds": 4,
    "footage.height": 96,
    "plan.videos_per_shard": 2,
    "labeler-1.training.steps": 4,
    "labeler-1.training.warmup_steps": 1,
    "labeler-2.training.steps": 2,
    "dap.training.steps": 2,
    "discriminator.steps": 2,
    "critic.steps": 2,
    "select-1.top": "{indoor: 4, outdoor: 4}",
}
TRAININGS = ("labeler-1", "labeler-2", "discriminator", "critic", "dap")
MAPS = ("simulate", "footage", "extract", "tag", "label-1", "score-1", "label-2")
FRUGAL = {  # as few processes as can be: each takes seconds to import what it needs
    **MINIATURE,
    **{f"{step}.pool.max_workers": 1 for step in MAPS},
    **{f"{step}.batches.num_workers": 0 for step in TRAININGS},
    **{f"{step}.batches.batch_size": 2 for step in TRAININGS},
    **{f"{step}.batches.image_height": 64 for step in TRAININGS},
    **{f"{step}.height": 64 for step in ("simulate", "field", "extract")},
}
COLUMNS = {
    *("footage", "labelled-sim", "labelled-field", "plan", "frames", "tags", "labels-1", "scores-1", "selection-1"),
    *("labels-2", "train-labelled", "train-selected", "train-final", "models", "reports"),
}


pytestmark = pytest.mark.timeout(600)


def options(settings: dict[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    command = ["run", "demo", "--run-dir", str(folder), *options({**FRUGAL, "executor": "in-process"})]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(command) == 0
    assert re.search(r"evaluate: blind( +(\d\.\d{4}|-)){6}", said.getvalue()), "the table is printed"
    return folder


def test_every_column_is_there_and_vouched_for(dap_here, demo):
    assert {path.name for path in demo.iterdir() if path.is_dir()} >= COLUMNS | {"receipts"}
    assert (demo / "run.yaml").is_file()
    verified = json.loads(dap_here("verify", "--run-dir", demo, "--json").stdout)
    assert (verified["ok"], verified["problems"]) == (True, [])
    assert set(verified["samples"]) == COLUMNS


def test_status_accounts_for_every_sample(dap_here, demo):
    columns = json.loads(dap_here("status", "--run-dir", demo, "--json").stdout)["columns"]
    assert set(columns) == COLUMNS
    for name, column in columns.items():
        assert (column["shards_total"], column["failed"]) == (column["shards_done"], []), name
    frames = columns["frames"]["samples_out"]
    assert frames > 0
    assert columns["plan"]["samples_out"] == 4
    for name in ("tags", "labels-1", "scores-1", "labels-2"):
        assert columns[name]["samples_in"] == columns[name]["samples_out"] == frames, name
    assert 0 < columns["selection-1"]["samples_out"] <= 8


def test_the_same_command_again_does_nothing(dap_here, demo):
    before = content_hashes(demo)
    again = dap_here("run", "demo", "--run-dir", demo, *options(FRUGAL))
    assert again.returncode == 0, again.stderr
    assert "up to date: nothing to do" in again.stderr
    assert content_hashes(demo) == before


def test_a_changed_threshold_reruns_what_depends_on_it(dap_here, demo):
    plan = dap_here("plan", "demo", "--run-dir", demo, *options(FRUGAL), "--set", "tag.threshold=0.9")
    rows = {line.split("│")[1].strip(): line for line in plan.stdout.splitlines() if line.startswith("│")}
    assert "setting threshold changed" in rows["tag"]
    assert "after tag" in rows["select-1"]
    for untouched in ("extract", "label-1", "score-1", "pack-labelled", "labeler-1"):
        assert "up to date" in rows[untouched], rows[untouched]


def test_the_figures_are_whole(demo):
    figures = json.loads((demo / "reports" / "evaluation" / "evaluation.json").read_text())
    assert set(figures) == {"blind", "labeler-1", "labeler-2", "dap"}
    for by_data in figures.values():
        assert set(by_data) == {"synthetic", "field"}
        assert all(values["samples"] > 0 and values["abs_rel"] > 0 for values in by_data.values())
    assert (demo / "reports" / "evaluation" / "examples.png").stat().st_size > 10_000


def test_rankers_are_measured_on_panoramas_whose_truth_is_known(demo):
    figures = json.loads((demo / "reports" / "rank-quality" / "rank-quality.json").read_text())
    assert sum(scene["n"] for scene in figures["scenes"].values()) == MINIATURE["field.panoramas"]
    rankers = {"patchgan", "critic", "consistency", "combined"}
    assert all(scene["rankers"].keys() == rankers for scene in figures["scenes"].values())
    assert figures["chosen"] in rankers


def test_models_carry_their_lineage(demo):
    lineage = json.loads((demo / "models" / "labeler-2" / "lineage.json").read_text())
    assert set(lineage["inputs"]) == {"train-selected"}
    assert set(lineage["assets"]) == {"init"}


def test_the_script_of_the_readme_reads_the_run(demo):
    readme = (REPOSITORY / "README.md").read_text()
    (script,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "webdataset" in block]
    imports = set(re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE))
    assert imports <= {"webdataset", "pyarrow", "json", "io"}
    script = script.replace("runs/demo", str(demo))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=demo.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
def test_on_ray_the_bytes_are_the_same(dap, demo, tmp_path):
    done = dap("run", "demo", "--run-dir", tmp_path / "run", *options(FRUGAL))
    assert done.returncode == 0, done.stderr
    assert content_hashes(tmp_path / "run") == content_hashes(demo)


@pytest.mark.slow
def test_the_whole_flow_on_an_object_store(dap, s3_uri):
    done = dap("run", "demo", "--run-dir", s3_uri, *options(MINIATURE))
    assert done.returncode == 0, done.stderr
    assert json.loads(dap("verify", "--run-dir", s3_uri, "--json").stdout)["ok"]
    again = dap("run", "demo", "--run-dir", s3_uri, *options(MINIATURE))
    assert "up to date: nothing to do" in again.stderr, again.stderr
