"""The study in miniature, from the command line: every arm is trained, and compared with the control."""

import json

import pytest

STUDENTS = ("student-labelled", "student", "student-once", "student-weighted", "student-second")
MINIATURE = {
    "simulate.panoramas": 48,
    "simulate.panoramas_per_shard": 16,
    "simulate.test_share": 0.3,
    "field.panoramas": 8,
    "field.panoramas_per_shard": 8,
    "footage.videos": 4,
    "footage.seconds": 4,
    "footage.height": 96,
    "plan.videos_per_shard": 2,
    "labeler.training.steps": 2,
    "labeler.training.warmup_steps": 1,
    "discriminator.steps": 1,
    "critic.steps": 1,
    "select.top": "{indoor: 4, outdoor: 4}",
    "select-combined.top": "{indoor: 4, outdoor: 4}",
    "student.each.arm": "[all, oracle, combined]",
    **{f"{step}.each.seed": "[1, 2]" for step in STUDENTS},
    **{f"{step}.training.steps": 1 for step in STUDENTS},
    **{f"{step}.training.warmup_steps": 0 for step in STUDENTS},
    **{f"{step}.batches.num_workers": 0 for step in ("labeler", "discriminator", "critic", *STUDENTS)},
}


def test_the_plan_of_the_whole_study_names_every_arm(dap_here, tmp_path):
    done = dap_here("plan", "study", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for arm in (
        *("labelled", "all", "once", "weighted", "second", "patchgan", "critic", "consistency", "combined"),
        *("random", "oracle"),
    ):
        assert f"student-{arm}-3" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_arms_are_compared_and_the_same_command_does_nothing_more(dap, tmp_path):
    options = [word for name, value in MINIATURE.items() for word in ("--set", f"{name}={value}")]
    done = dap("run", "study", "--run-dir", tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "reports" / "comparison" / "comparison.json").read_text())
    assert figures["seeds"] == ["1", "2"]
    assert list(figures["data"]["field"]["all"]["abs_rel"]) == [
        *("labelled", "all", "oracle", "combined", "once", "weighted", "second")
    ]
    assert figures["data"]["field"]["all"]["n"] == 8
    again = dap("run", "study", "--run-dir", tmp_path / "run", *options)
    assert "up to date: nothing to do" in again.stderr
