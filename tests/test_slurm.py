"""The job script on a real Slurm of one node: told to stop in the middle, it goes back into the queue and on."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.jobs.conftest import content_hashes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 300
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/linear
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
MODULE = """
import time
from dataclasses import dataclass

import pyarrow as pa

from dap_engine.engine import ParquetColumn, Row, Sample, SourceStage


@dataclass
class Slow(SourceStage):
    name = "slow"
    writes = ParquetColumn("slow", pa.schema([("number", pa.int64())]))
    pause_s: float = 0.0

    def settings(self):
        return {}

    def shards(self):
        return [f"{number:04d}" for number in range(6)]

    def source(self, shard):
        return [Sample(f"key-{shard}-{number}", {}) for number in range(8)]

    def process(self, batch):
        for number, sample in enumerate(batch):
            time.sleep(self.pause_s)
            yield Row(sample.key, {"number": int(sample.key[-1])})
"""


@pytest.fixture
def slurm(monkeypatch) -> Iterator[Path]:
    """A Slurm of one node, this machine; where its logs lie."""
    if not (shutil.which("slurmctld") and shutil.which("slurmd") and os.getuid() == 0):
        pytest.skip("needs slurmctld and slurmd (Debian's slurm-wlm), and to be root")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder, ports = Path(name), free_ports(2)
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        conf = folder / "slurm.conf"
        host = socket.gethostname()
        cpus = os.cpu_count()
        conf.write_text(CONF.format(host=host, folder=folder, controller_port=ports[0], node_port=ports[1], cpus=cpus))
        monkeypatch.setenv("SLURM_CONF", str(conf))
        daemons = [start(folder, name, "-D", "-f", str(conf)) for name in ("slurmctld", "slurmd")]
        try:
            await_true(lambda: "idle" in said("sinfo", "--noheader", "--format=%T"), folder)
            yield folder
        finally:
            subprocess.run(["scancel", "--user=root", "--full"], check=False, capture_output=True)
            time.sleep(2)
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def await_true(condition, folder: Path) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in folder.glob("*.log"))
        assert time.monotonic() < end_s, logs
        time.sleep(0.3)


def test_a_job_that_is_told_to_stop_is_queued_again_and_ends_as_an_undisturbed_one(slurm, tmp_path, monkeypatch):
    (tmp_path / "slowly.py").write_text(MODULE)
    (tmp_path / "recipe.yaml").write_text('steps:\n  slow: {step: "slowly:Slow", pause_s: 0.5}\n')
    (tmp_path / "dap").write_text(f'#!/bin/sh\nexec {sys.executable} -m dap_engine.jobs "$@"\n')
    (tmp_path / "dap").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    log, run = tmp_path / "job.log", tmp_path / "run"
    script = [str(REPOSITORY / "infra" / "slurm" / "curate.sbatch"), "recipe.yaml", "--run-dir", str(run)]
    sbatch = ["sbatch", "--parsable", "--nodes=1", f"--output={log}", *script]
    job = subprocess.run(sbatch, check=True, capture_output=True, text=True).stdout.strip()

    def state() -> str:
        shown = said("scontrol", "show", "job", "--oneliner", job)
        assert "JobState=FAILED" not in shown, log.read_text()
        return shown

    await_true(lambda: state() and list(run.glob("receipts/slow/*.json")), slurm)
    subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)
    await_true(lambda: "Restarts=1" in state(), slurm)
    before = len(list(run.glob("receipts/slow/*.json")))
    assert 1 <= before < 6
    await_true(lambda: "Reason=BeginTime" in state(), slurm)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)  # else minutes later
    await_true(lambda: "JobState=COMPLETED" in state(), slurm)
    text = log.read_text()
    assert "dap run: stopped by SIGTERM; the same command resumes" in text
    assert "told to stop: back into the queue" in text
    assert re.search(rf"slow: {6 - before} of 6 to do", text), text
    calm = tmp_path / "calm"
    settings = ["--set", "executor=in-process", "--set", "slow.pause_s=0"]
    alone = ["dap", "run", "recipe.yaml", "--run-dir", str(calm), *settings]
    undisturbed = subprocess.run(alone, check=False, capture_output=True, text=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert content_hashes(run) == content_hashes(calm)
