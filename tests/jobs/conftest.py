"""The command line as people use it, footage made by it, and a small model saved to disk."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import simplejpeg

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.__main__ import main
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas

Dap = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def dap(tmp_path_factory) -> Dap:
    """Runs `dap …` as a process of its own, away from the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments: object, timeout_s: float = 580) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dap_engine.jobs", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)

    return run


@pytest.fixture
def dap_here(capsys) -> Dap:
    """Runs `dap …` in this process, which has imported already what a process of its own takes seconds to import."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def footage(tmp_path_factory) -> Path:
    """A folder of six simulated 360° videos, which the processes that run tests make once together."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "simulated-footage"
    size = ["--videos", "6", "--seconds", "6", "--fps", "2", "--height", "96", "--seed", "3"]
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["simulate", "--out", str(out), *size, "--executor", "in-process"]) == 0
    return out / "footage"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder with fresh weights."""
    folder = tmp_path_factory.mktemp("model")
    DapModel.new(DapConfig.tiny(), seed=0).save_pretrained(folder)
    return folder


def content_hashes(run_dir: Path) -> dict[tuple[str, str], tuple[str, str, int]]:
    """Fingerprint, output hash and sample count of every receipt of a run."""
    run = RunDir(str(run_dir))
    receipts = [receipt for column in run.columns() for receipt in run.receipts(column).values()]
    return {(r.column, r.shard): (r.fingerprint, r.output.sha256, r.samples_out) for r in receipts}


def kill_group_when(condition: Callable[[], bool], command: list[str]) -> None:
    """Starts a command as a process group of its own and kills it all at the instant the condition holds."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not condition():
            assert process.poll() is None, f"ended before it could be killed: {process.communicate()[1].decode()}"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A simulated panorama as a JPEG file."""
    (panorama,) = labelled_panoramas(seed=5, count=1, look="synthetic", height=128, start=4)
    path = tmp_path_factory.mktemp("picture") / "panorama.jpg"
    path.write_bytes(simplejpeg.encode_jpeg(panorama.rgb, quality=95))
    return path
