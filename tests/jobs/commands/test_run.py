"""Exit codes of `dap run` and what it leaves when a shard or a barrier fails, and how the same command mends it."""

import json
import os

import pytest

from dap_engine.jobs.__main__ import main

RECIPE = """
name: small
executor: in-process
steps:
  simulate: {step: simulate, source_name: sim, panoramas: 4, panoramas_per_shard: 4, height: 16, test_share: 0.0,
             validation_share: 0.0}
  pack: {step: pack, train: all, sources: [{images: labelled-sim}]}
  film: {step: film, videos: 2, height: 32, seconds: 1, fps: 2}
  plan: {step: plan, videos: "run:footage", videos_per_shard: 1}
  extract: {step: extract, height: 32, every_s: 0.5}
  tag: {step: tag}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def test_a_barrier_that_fails_is_exit_code_1_and_says_why(capsys, recipe, tmp_path):
    run = ["run", str(recipe), "--run-dir", str(tmp_path / "run"), "--until", "pack"]
    assert main([*run, "--set", "pack.splits=[test]"]) == 1
    assert "nothing to pack" in capsys.readouterr().err
    assert main(["status", "--run-dir", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"]["train-all"]["failed"] == ["pack"]
    assert main(run) == 0
    assert main(["verify", "--run-dir", str(tmp_path / "run")]) == 0


def test_an_output_that_was_replaced_behind_its_receipt_is_made_again(capsys, recipe, tmp_path):
    place = tmp_path / "run"
    run = ["run", str(recipe), "--run-dir", str(place), "--until", "tag"]
    assert main(run) == 0
    shard = place / "frames" / "000001.tar"
    good = shard.read_bytes()
    shard.write_bytes(b"x" * len(good))
    capsys.readouterr()
    assert main(["plan", str(recipe), "--run-dir", str(place), "--until", "tag"]) == 0
    assert "its output is newer than its receipt" in capsys.readouterr().out
    assert main(run) == 0
    assert shard.read_bytes() == good
    shard.touch()  # the same bytes: hashed, validated for again, and nothing is made
    capsys.readouterr()
    assert main(run) == 0
    assert "up to date: nothing to do" in capsys.readouterr().err
    assert main(["verify", "--run-dir", str(place)]) == 0


def test_a_step_without_what_it_needs_says_so_and_leaves_no_failure(capsys, recipe, tmp_path):
    place = tmp_path / "run"
    assert main(["run", str(recipe), "--run-dir", str(place), "--only", "tag"]) == 1
    error = capsys.readouterr().err
    assert "tag: its shards are not known: after plan" in error
    assert "error.json" not in error
    assert not list(place.rglob("*.error.json"))


def test_a_shard_that_fails_is_exit_code_3_and_the_others_are_done(capsys, recipe, tmp_path):
    place = tmp_path / "run"
    run = ["run", str(recipe), "--run-dir", str(place), "--until"]
    assert main([*run, "extract"]) == 0
    shard = place / "frames" / "000001.tar"
    before = shard.stat()
    shard.write_bytes(b"x" * before.st_size)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk damages it
    capsys.readouterr()
    assert main([*run, "tag"]) == 3
    error = capsys.readouterr().err
    assert "failed: tag 000001" in error
    assert "broken tar" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in (place / "receipts" / "tags").iterdir()) == ["000000.json", "000001.error.json"]
    assert "Traceback" in json.loads((place / "receipts" / "tags" / "000001.error.json").read_text())["traceback"]
    assert main(["verify", "--run-dir", str(place)]) == 1
    assert "frames/000001" in capsys.readouterr().out
    (place / "receipts" / "frames" / "000001.json").unlink()
    assert main([*run, "tag"]) == 0
    assert main(["verify", "--run-dir", str(place)]) == 0


def test_a_damaged_receipt_counts_for_nothing(capsys, recipe, tmp_path):
    run = ["run", str(recipe), "--run-dir", str(tmp_path / "run"), "--until", "extract"]
    assert main(run) == 0
    receipt = tmp_path / "run" / "receipts" / "frames" / "000000.json"
    receipt.write_bytes(b"{}")
    assert main(["verify", "--run-dir", str(tmp_path / "run")]) == 1
    assert "damaged" in capsys.readouterr().out
    assert main(run) == 0
    assert "extract: 1 of 2 to do (its receipt is damaged)" in capsys.readouterr().err
    assert main(["verify", "--run-dir", str(tmp_path / "run")]) == 0
