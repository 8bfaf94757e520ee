"""`dap submit` on a real job server: what travels, what is said, and which exit code comes back."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dap_engine.engine.rundir.holder import holders
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.submission.luggage import pack_luggage
from tests.engine.cluster import Process, below
from tests.jobs.conftest import content_hashes
from tests.own_modules import folder  # noqa: F401 - a fixture
from tests.runs import rows_of

PATIENCE_S = 200
TOKEN = "0123456789abcdef0123456789abcdef"
MODULE = """
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dap_engine.engine import Drop, ParquetColumn, Row, Sample, SourceStage


@dataclass
class Wait(SourceStage):
    '''Waits for a file, and drops what that says.'''

    name = "wait"
    writes = ParquetColumn("waited", pa.schema([("number", pa.int64())]))
    go: str
    fails: bool = False

    def shards(self):
        return ["0000", "0001"]

    def source(self, shard):
        return [Sample(f"key-{shard}-{number:02d}", {}) for number in range(20)]

    def process(self, batch):
        while not (Path(self.go).exists() and Path(self.go).read_text()):
            time.sleep(0.05)
        if self.fails:
            raise ValueError("as it was told to")
        late = Path(self.go).read_text() == "drop"
        for number, sample in enumerate(batch):
            time.sleep(0.02)
            drop = late and sample.key.endswith("-07")
            yield Drop(sample.key, "late") if drop else Row(sample.key, {"number": number})
"""
WHERE = """
import pyarrow as pa

import dap_engine.engine
from dap_engine.engine import ParquetColumn, Row, stage


@stage(reads=["waited"], writes=ParquetColumn("where", pa.schema([("place", pa.string())])))
def where(samples):
    for sample in samples:
        yield Row(sample.key, {"place": next(iter(dap_engine.engine.__path__))})
"""
RECIPE = """
name: small
executor: in-process
steps:
  wait: {step: "waiting:Wait", go: go}
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The job server of a cluster of one node that wants a token."""
    with tempfile.TemporaryDirectory(dir="/tmp") as own:
        listening = ("port", "ray-client-server-port", "dashboard-agent-listen-port")
        ports = [f"--{name}={free_port()}" for name in listening]
        dashboard = free_port()
        small = ["--num-cpus=2", "--object-store-memory=80000000", "--include-log-monitor=false", f"--temp-dir={own}"]
        web = ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--disable-usage-stats"]
        scripts = str(Path(sys.executable).parent)
        path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        env.pop("RAY_ADDRESS", None)
        head = subprocess.Popen(
            [f"{scripts}/ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", *ports, *small, *web],
            cwd=own, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            await_true(lambda: is_open(dashboard), head)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            family = below(Process.of(head.pid))
            head.terminate()
            with suppress(subprocess.TimeoutExpired):
                head.wait(timeout=60)
            for process in filter(lambda process: process.alive, family):
                process.kill()
            head.kill()
            head.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def dap_elsewhere(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as this one may have an event loop (a browser's)."""
    command = [sys.executable, "-m", "dap_engine.jobs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def await_true(condition, process: subprocess.Popen) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end_s
        time.sleep(0.2)


@pytest.fixture
def go(folder, monkeypatch) -> Path:  # noqa: F811
    """The file that runs wait for, beside a recipe and its step's module; the user has the cluster's token."""
    (folder / "waiting.py").write_text(MODULE)
    (folder / "where.py").write_text(WHERE)
    (folder / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # restored afterwards: `dap submit` sets it
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return folder / "go"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_is_submitted_waited_for_refused_resumed_and_its_drops_tried_again(dap_here, go, address, monkeypatch):
    place = str(go.parent / "run")
    submit = ["submit", "recipe.yaml", "--run-dir", place, "--address", address, "--set", f"wait.go={go}"]
    with monkeypatch.context() as without:
        without.delenv("RAY_AUTH_TOKEN")
        without.setenv("HOME", str(go.parent))  # a token may lie at home; and Ray keeps one that a process has read
        refused = dap_elsewhere(*submit)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert "Unauthorized: Missing authentication token" in refused.stderr

    command = [sys.executable, "-m", "dap_engine.jobs", *submit, "--wait"]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    await_true(lambda: holders(Storage(place)), waiting)
    second = dap_here(*submit)
    assert (second.returncode, len(second.stderr.splitlines())) == (2, 1), second.stderr
    (job,) = re.findall(r"is held by job (dap-small-\d+-\d+-\w+); --take-over", second.stderr)
    by_hand = dap_here("run", "recipe.yaml", "--run-dir", place, "--set", f"wait.go={go}")
    assert (by_hand.returncode, f"is held by job {job} on " in by_hand.stderr) == (2, True), by_hand.stderr
    waiting.send_signal(signal.SIGINT)
    printed, said = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, printed) == (130, f"{job}\n"), said
    assert f"stop:   ray job stop {job} --address {address}" in said
    assert said.splitlines()[-1].startswith("dap submit: interrupted; the job goes on")
    go.write_text("drop")
    assert (
        "waited: 2/2 shards, 40 in, 38 out, dropped late 2" in dap_here("status", "--run-dir", place, "--watch").stdout
    )

    go.write_text("keep")
    retry = ["submit", "--run-dir", place, "--address", address, "--retry", "waited", "--code", "late", "--wait"]
    again = dap_elsewhere(*retry, "recipe.yaml")
    assert again.returncode == 0, again.stderr
    assert "put back in waited: drops of 2 shards" in again.stderr
    assert "waited: 2/2 shards, 40 in, 40 out\n" in dap_here("status", "--run-dir", place, "--watch").stdout

    failed = dap_elsewhere(*submit, "--set", "wait.fails=true", "--wait")
    assert (failed.returncode, "ValueError: as it was told to" in failed.stderr) == (3, True), failed.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_on_ray_takes_the_package_along_and_is_resumed_after_a_stop(dap_here, go, address, tmp_path_factory):
    (go.parent / "recipe.yaml").write_text(f'{RECIPE}  where: {{step: "where:where"}}\n')
    place, calm = go.parent / "run", tmp_path_factory.mktemp("calm") / "run"
    options = ["recipe.yaml", "--address", address, "--set", f"wait.go={go}", "--with-package", "--wait"]
    submit = [*options, "--set", "executor=ray", "--run-dir", str(place)]
    command = [sys.executable, "-m", "dap_engine.jobs", "submit", *submit]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    await_true(lambda: list(place.glob("logs/wait/*")), first)  # a worker has it
    assert first.stdout
    job = first.stdout.readline().strip()
    stop = [Path(sys.executable).parent / "ray", "job", "stop", job, "--address", address]
    subprocess.run(stop, check=True, env={**os.environ, "RAY_AUTH_MODE": "token"}, stdout=subprocess.DEVNULL)
    assert first.wait(timeout=PATIENCE_S) != 0
    go.write_text("keep")
    assert (resumed := dap_here("submit", *submit)).returncode == 0, resumed.stderr
    assert (undisturbed := dap_here("submit", *options, "--run-dir", str(calm))).returncode == 0, undisturbed.stderr
    waited = {key: value for key, value in content_hashes(calm).items() if key[0] == "waited"}
    assert {key: value for key, value in content_hashes(place).items() if key[0] == "waited"} == waited != {}
    places = {row["place"] for row in rows_of(RunDir(str(place)), "where").values()}
    assert all("/working_dir_files/" in there and there.endswith("dap_engine/engine") for there in places), places


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipe.yaml", "--address", "head:8265"], "--address head:8265: give http://HEAD:8265"),
        (["--address", "http://127.0.0.1:1"], "give a RECIPE, or --retry COLUMN"),
        (["recipe.yaml", "--address", "http://127.0.0.1:1", "--code", "x"], "give --retry COLUMN, too"),
        (
            ["--address", "http://127.0.0.1:1", "--retry", "frames", "--only", "a"],
            "leave --only, --until and --set out",
        ),
        (["nosuch.yaml", "--address", "http://127.0.0.1:1"], "no recipe 'nosuch.yaml'"),
        (["recipe.yaml", "--address", "http://127.0.0.1:1", "--only", "nosuch"], "no step 'nosuch'"),
        (["recipe.yaml", "--address", "http://127.0.0.1:1", "--run-dir", "ftp://there/run"], "ftp:// is not read"),
    ],
)
def test_what_is_wrong_is_said_before_the_cluster_is_asked(dap_here, go, arguments, message):
    wrong = dap_here("submit", "--run-dir", "/there", *arguments)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
    assert message in wrong.stderr


def test_no_job_server_is_one_line(dap_here, go):
    address = f"http://127.0.0.1:{free_port()}"
    nobody = dap_here("submit", "recipe.yaml", "--run-dir", "/there", "--address", address)
    assert nobody.returncode == 1
    (line,) = nobody.stderr.splitlines()
    assert line.startswith(f"dap submit: no job server at {address}: ")


@pytest.mark.slow
def test_the_package_travels_whole(tmp_path):
    pack_luggage(tmp_path, "", [], with_package=True)
    assert not list(tmp_path.rglob("__pycache__"))
    code = "from dap_engine.jobs import job; print(job.__file__, len(job.read_recipe('demo')))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"{tmp_path}/dap_engine/jobs/job.py "), done.stderr
    assert list(tmp_path.glob("dap_engine/models/inference/embedded_weights/*"))
