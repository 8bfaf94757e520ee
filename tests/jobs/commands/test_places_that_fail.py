"""A disk that fills, data that vanish in the middle of the work: one line says so, and the command resumes."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.jobs.packed import HEIGHT, TINY, pack_rooms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a run waits a minute for room

RECIPE = """
name: small
executor: in-process
steps:
  simulate: {step: simulate, source_name: sim, panoramas: 64, panoramas_per_shard: 16, height: 128}
  pack: {step: pack, train: all, sources: [{images: labelled-sim}], splits: [train, val, test]}
"""
TRAINING = {
    "training": {"steps": 8, "backbone_lr": 1e-3, "decoder_lr": 1e-3},
    "network": {"config": TINY},
    "batches": {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0},
    "hardware": {"accelerator": "cpu"},
    "checkpoint_every": 2,
    "validate_every": 100,
    "keep": 0,
}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Gives the folder `disk` room for so many KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def resize(kib: int) -> Path:
        again = "remount," if disk.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}size={kib}k", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        return disk

    yield resize
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_run(dap, small_disk, tmp_path):
    run = small_disk(1500) / "run"
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = ["run", tmp_path / "recipe.yaml", "--run-dir", run]
    full = dap(*command)
    assert full.returncode == 3, full.stderr
    assert f"{run}: disk full" in full.stderr
    assert "Traceback" not in full.stderr
    done = {path: path.stat().st_mtime_ns for path in (run / "labelled-sim").iterdir()}
    assert done
    small_disk(60_000)
    resumed = dap(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert done.items() <= {path: path.stat().st_mtime_ns for path in (run / "labelled-sim").iterdir()}.items()
    assert dap("verify", "--run-dir", run).returncode == 0


def test_a_training(dap, small_disk, tmp_path):
    data = tmp_path / pack_rooms(tmp_path, {"train-000000": 8, "val-000000": 4})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TRAINING))
    room_kib = 60_000
    out = small_disk(room_kib) / "model"
    command = ["train", tmp_path / "config.yaml", "--data", data, "--out", out]
    assert dap(*command, "--set", "training.steps=3").returncode == 0
    needed_kib = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) // 1024
    subprocess.run(["rm", "-r", str(out)], check=True)
    small_disk(needed_kib + 40)
    full = dap(*command)
    assert full.returncode not in (0, None)
    assert "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert re.search(r"a checkpoint cannot be written, with 0.\d MB free|No space left|disk full", last), full.stderr
    small_disk(room_kib)
    resumed = dap(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_that_vanish_in_a_training(dap, tmp_path, num_workers):
    data, out = tmp_path / pack_rooms(tmp_path, {"train-000000": 8, "val-000000": 4}), tmp_path / "model"
    batches = {**TRAINING["batches"], "num_workers": num_workers}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**TRAINING, "batches": batches}))
    command = ["train", tmp_path / "config.yaml", "--data", data, "--out", out, "--set", "training.steps=400"]
    words = [sys.executable, "-m", "dap_engine.jobs", *map(str, command)]
    training = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("unfinished-*.ckpt")):
        assert training.poll() is None
        time.sleep(0.1)
    shard = data / "train-000000.tar"
    shard.rename(data / "gone")
    said = training.communicate(timeout=200)[1]
    assert training.returncode == 1
    assert f"No such file or directory: '{shard}'" in said.splitlines()[-1]
    assert "Traceback" not in said
    (data / "gone").rename(shard)
    resumed = dap(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert "step 1/400" not in resumed.stderr
