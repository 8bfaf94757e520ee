"""Commands that are told to stop: in order, within five seconds, and the same command resumes."""

import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest

from dap_engine.jobs import __main__ as command_line

WITHIN_S = 5.0


def stopped(command, out, *signals, env=None):
    """Exit code, seconds from the first signal to the end, and stderr of a command that is told to stop at work."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    deadline_s = time.monotonic() + 200
    while not list(out.glob("receipts/*/*.json")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s, "nothing was made"
        time.sleep(0.05)
    began_s = time.monotonic()
    for number in signals:
        os.kill(process.pid, number)
        time.sleep(0.05)
    _, said = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - began_s, said


def simulate(out, executor):
    size = ["--panoramas", "600", "--height", "64", "--executor", executor]
    return [sys.executable, "-m", "dap_engine.jobs", "simulate", "--out", str(out), *size]


@pytest.mark.slow
def test_a_run_on_ray_ends_in_order_with_sigterm(tmp_path):
    """With a TMPDIR that is too long for Ray's sockets, as batch systems set it."""
    long = tmp_path / ("job-" + "0" * 100)
    long.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"} | {"TMPDIR": str(long)}
    code, seconds, said = stopped(simulate(tmp_path / "out", "ray"), tmp_path / "out", signal.SIGTERM, env=env)
    assert code == 128 + signal.SIGTERM, said
    assert seconds < WITHIN_S
    assert said.splitlines()[-1] == "dap simulate: stopped by SIGTERM; the same command resumes"
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "what"),
    [
        pytest.param(signal.SIGHUP, "stopped by SIGHUP", marks=pytest.mark.slow),
        (signal.SIGINT, "interrupted"),
    ],
)
def test_a_run_in_process_ends_in_order_and_resumes(tmp_path, number, what):
    out = tmp_path / "out"
    code, seconds, said = stopped(simulate(out, "in-process"), out, number)
    assert (code, said.splitlines()[-1]) == (128 + number, f"dap simulate: {what}; the same command resumes")
    assert seconds < WITHIN_S
    done = {file: file.stat().st_mtime_ns for file in out.glob("receipts/*/*.json")}
    stopped(simulate(out, "in-process"), out, signal.SIGTERM)
    assert done.items() <= {file: file.stat().st_mtime_ns for file in out.glob("receipts/*/*.json")}.items()


BLOCKED = """
import ctypes, os, signal, sys, time
from dap_engine.jobs.interruption import interruptible
with interruptible("train"):
    if not (child := os.fork()):
        time.sleep(600)
    time.sleep(0.5)
    os.kill(child, signal.SIGHUP)  # what a child is sent does not end its parent
    time.sleep(5.5)
    print("blocked", flush=True)
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    lock(mutex)
    lock(mutex)
"""


@pytest.mark.slow
def test_a_call_that_nothing_breaks_off_ends_as_soon():
    """Such as waiting for another rank of a training, in a library."""
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "blocked\n"
    time.sleep(1)  # until it is so
    began_s = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began_s < WITHIN_S
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "dap train: stopped by SIGTERM; the same command resumes"


CHILD_ENDS_TOO = """
import os, signal, subprocess, sys
from dap_engine.jobs.interruption import interruptible
def raises(*_):
    raise RuntimeError("a worker is killed by signal: Terminated")
signal.signal(signal.SIGCHLD, raises)  # as torch's loader does
with interruptible("train") as interruption:
    worker = subprocess.Popen(["sleep", "600"])
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        worker.terminate()
        worker.wait()
        sys.exit(interruption.report())
"""


def test_workers_that_are_told_to_stop_as_well_raise_nothing():
    """SIGTERM to the whole process group, as `timeout` sends it."""
    done = subprocess.run([sys.executable, "-c", CHILD_ENDS_TOO], capture_output=True, text=True, check=False)
    assert done.stderr == "dap train: stopped by SIGTERM; the same command resumes\n"
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "line"),
    [("verify", "dap verify: interrupted\n"), ("retry", "dap retry: interrupted; the same command resumes\n")],
)
def test_only_commands_that_resume_say_so(monkeypatch, capsys, tmp_path, command, line):
    monkeypatch.setattr(command_line, "_run", Mock(side_effect=KeyboardInterrupt))
    column = ["--column", "c"] if command == "retry" else []
    assert command_line.main([command, "--run-dir", str(tmp_path), *column]) == 130
    assert capsys.readouterr().err == line


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path):
    code, seconds, _ = stopped(simulate(tmp_path / "out", "ray"), tmp_path / "out", signal.SIGINT, signal.SIGINT)
    assert code in (-signal.SIGINT, 128 + signal.SIGINT)  # the former: the first had not brought it to its end
    assert seconds < 2
