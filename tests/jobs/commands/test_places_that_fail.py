"""A disk that fills, data that vanish in the middle of the work: one line says so, and the command resumes."""

import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dap_engine.engine.storage import faults
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.commands import train
from tests.conftest import REPOSITORY
from tests.engine.storage.faulty_s3 import FaultyS3
from tests.jobs.packed import HEIGHT, TINY, pack_rooms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a run waits a minute for room


@pytest.fixture
def launched(dap) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `dap …` on so many ranks."""

    def run(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        if ranks == 1:
            return dap(*arguments)
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "-m", "dap_engine.jobs"]
        command = [sys.executable, *torchrun, *map(str, arguments)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=580, check=False)

    return run


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


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training(launched, small_disk, tmp_path, ranks):
    """Two ranks write a part of a checkpoint each."""
    data = tmp_path / pack_rooms(tmp_path, {"train-000000": 8, "val-000000": 4})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(TRAINING))
    room_kib = 60_000
    out = small_disk(room_kib) / "model"
    strategy = ["--set", f"hardware.strategy={'ddp' if ranks == 1 else 'fsdp'}"]
    command = ["train", tmp_path / "config.yaml", "--data", data, "--out", out, *strategy]
    assert launched(ranks, *command, "--set", "training.steps=3").returncode == 0
    needed_kib = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) // 1024
    subprocess.run(["rm", "-r", str(out)], check=True)
    small_disk(needed_kib + 40)
    full = launched(ranks, *command)
    assert full.returncode not in (0, None)
    said = [line for line in full.stderr.splitlines() if line.startswith("dap train: ")]
    assert len(said) in range(1, ranks + 1), full.stderr
    assert re.search(r"a checkpoint cannot be written, with 0.\d MB free|No space left|disk full", said[-1])
    assert ranks > 1 or "Traceback" not in full.stderr  # torchrun's own
    small_disk(room_kib)
    resumed = launched(ranks, *command)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize("asked_for", ["data", "checkpoints"])
def test_a_store_that_goes_away_in_a_training(dap_here, s3_endpoint, s3_uri, tmp_path, monkeypatch, asked_for):
    monkeypatch.setattr(faults, "RETRY_FOR_S", 2.0)
    proxy, local = FaultyS3(s3_endpoint), pack_rooms(tmp_path, {"train-000000": 8, "val-000000": 4})
    behind = s3_uri.replace(urllib.parse.quote(s3_endpoint, safe=""), urllib.parse.quote(proxy.endpoint, safe=""))
    data, out = tmp_path / local, str(tmp_path / "model")
    if asked_for == "data":
        for file in data.iterdir():
            Storage(s3_uri).write_bytes(f"{local}/{file.name}", file.read_bytes())
        data = str(Place.parse(behind).below(local))
    else:
        out = str(Place.parse(behind).below("model"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**TRAINING, "data": str(data)}))
    command = ["train", tmp_path / "config.yaml", "--out", out]
    say = train._log
    monkeypatch.setattr(train, "_log", lambda line: proxy.go_away() if line.startswith("step 3/") else say(line))
    began_s = time.monotonic()
    away = dap_here(*command)
    assert away.returncode == 1
    assert "s3://" in away.stderr.splitlines()[-1]
    assert "Traceback" not in away.stderr
    assert time.monotonic() - began_s < 60
    proxy.come_back()
    monkeypatch.setattr(train, "_log", say)
    resumed = dap_here(*command, "--take-over")  # from this very process, whose claim stands
    assert resumed.returncode == 0, resumed.stderr
    assert "step 1/" not in resumed.stderr
    assert "step 8/8" in resumed.stderr
    proxy.go_away()


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
