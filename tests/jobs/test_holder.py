"""Two runs on one run directory: the second is told who holds it; a killed one delays nobody; one can be taken over."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dap_engine.engine.rundir.holder import FOLDER, holders
from dap_engine.engine.storage.storage import Storage
from tests.own_modules import folder  # noqa: F401 - a fixture

MODULE = """
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dap_engine.engine import ParquetColumn, Row, Sample, SourceStage


@dataclass
class Wait(SourceStage):
    '''Waits for a file.'''

    name = "wait"
    writes = ParquetColumn("waited", pa.schema([("number", pa.int64())]))

    def shards(self):
        return ["0000", "0001"]

    def source(self, shard):
        return [Sample(f"key-{shard}", {})]

    def process(self, batch):
        while not Path("go").exists():
            time.sleep(0.05)
        return [Row(sample.key, {"number": 1}) for sample in batch]
"""
PATIENCE_S = 200


@pytest.fixture
def go(folder) -> Path:  # noqa: F811
    """A folder with a recipe whose runs wait for the file `go` in it."""
    (folder / "waiting.py").write_text(MODULE)
    (folder / "recipe.yaml").write_text('executor: in-process\nsteps:\n  wait: {step: "waiting:Wait"}\n')
    return folder / "go"


def started(place: str, *options: str) -> subprocess.Popen[str]:
    """A run that has begun: it holds the run directory, and no other does."""
    command = [sys.executable, "-m", "dap_engine.jobs", "run", "recipe.yaml", "--run-dir", place, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end_s = time.monotonic() + PATIENCE_S
    while [holder.pid for holder, _ in holders(Storage(place)).values()] != [process.pid]:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return process


def test_the_second_run_is_told_who_holds_the_directory_and_a_killed_one_delays_nobody(dap_here, go, place):
    run = ["run", "recipe.yaml", "--run-dir", place]
    first = started(place)
    second = dap_here(*run)
    assert second.returncode == 2
    (line,) = second.stderr.splitlines()
    who = f"held by process {first.pid} on {re.escape(socket.gethostname())} since 20.. "
    assert re.search(who.replace("20.. ", r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC; --take-over"), line), line
    assert dap_here("retry", "--run-dir", place, "--column", "waited").returncode == 2
    first.send_signal(signal.SIGKILL)  # and nobody asks what became of it
    while psutil.Process(first.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
    go.touch()
    began_s = time.monotonic()
    third = dap_here(*run)
    assert (third.returncode, "held by" in third.stderr) == (0, False), third.stderr
    assert time.monotonic() - began_s < 10
    assert Storage(place).list(FOLDER) == {}
    assert dap_here("verify", "--run-dir", place).returncode == 0
    first.communicate()


def test_who_is_taken_over_ends_in_order_and_the_other_is_watched(dap_here, go, tmp_path):
    place = str(tmp_path / "run")
    first = started(place)
    second = started(place, "--take-over")
    said = first.communicate(timeout=PATIENCE_S)[1].splitlines()
    assert first.returncode == 128 + signal.SIGTERM
    assert "another run has taken over this run directory" in said[-2]
    assert said[-1] == "dap run: stopped by SIGTERM; the same command resumes"
    command = [sys.executable, "-m", "dap_engine.jobs", "status", "--run-dir", place, "--watch"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert watch.stdout
    first_lines = [watch.stdout.readline() for _ in range(2)]
    assert first_lines[0] == "waited: 0/2 shards, 0 in, 0 out\n"
    assert first_lines[1].startswith(f"held by process {second.pid} on ")
    go.touch()
    assert "done: 2 outputs made" in second.communicate(timeout=PATIENCE_S)[1]
    assert second.returncode == 0
    rest = watch.communicate(timeout=PATIENCE_S)[0].splitlines()
    assert (watch.returncode, rest) == (0, ["waited: 2/2 shards, 2 in, 2 out", "nobody works in it"])
    assert dap_here("status", "--run-dir", place, "--watch").stdout.splitlines() == rest  # it is complete
    assert "--json is one document" in dap_here("status", "--run-dir", place, "--watch", "--json").stderr
    assert os.listdir(tmp_path / "run" / FOLDER) == []
