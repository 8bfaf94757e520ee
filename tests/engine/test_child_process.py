"""Children that fail in every way, and what is known of it here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dap_engine.engine.child_process import ChildError, ChildProcess

_PARENT_OF_A_DEAF_CHILD = """
from dap_engine.engine.child_process import ChildProcess
from tests.engine.deaf import hold_the_interpreter
child = ChildProcess(hold_the_interpreter)
print(child.receive(60), flush=True)
child.receive()
"""


def echo(parent):
    while True:
        parent.send(parent.receive())


def send_much(parent):
    parent.send("x" * (65 << 20))


def leave(parent, status):
    sys.exit(status)


def die(parent, status):
    os._exit(status)


def the_error(function, *arguments, **options):
    with ChildProcess(function, *arguments, **options) as child, pytest.raises(ChildError) as caught:
        child.receive(60)
    return caught.value


@pytest.mark.parametrize("status", [0, 3])
def test_exiting_is_an_exception(status):
    error = the_error(leave, status)
    assert (error.code, str(error)) == ("raised", f"SystemExit: {status}")


def test_an_exit_that_python_does_not_see_is_a_death():
    error = the_error(die, 3)
    assert (error.code, str(error)) == ("died", "died with exit status 3")


@pytest.mark.parametrize("logged", [True, False])
def test_a_child_that_cannot_begin_says_why(tmp_path, monkeypatch, logged):
    (tmp_path / "psutil.py").write_text("raise ImportError('psutil is of another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    with (tmp_path / "log").open("ab", buffering=0) as log:
        error = the_error(echo, log=log if logged else subprocess.DEVNULL)
    assert (error.code, str(error)) == ("raised", "ImportError: psutil is of another Python")
    assert "Traceback" in error.traceback
    assert (tmp_path / "log").read_text() == (error.traceback if logged else "")


def test_too_long_a_message_is_refused():
    error = the_error(send_much)
    assert (error.code, str(error)) == ("died", "sent more than 64 MiB at once")


def test_what_cannot_be_pickled_leaves_no_child():
    before = psutil.Process().children()
    with pytest.raises(Exception, match="pickle"):
        ChildProcess(echo, lambda: None)
    assert psutil.Process().children() == before


def test_only_the_first_kill_sends_a_signal(monkeypatch):
    child, killed = ChildProcess(echo), []
    monkeypatch.setattr(os, "killpg", lambda *call: killed.append(call))
    os.kill(child._process.pid, signal.SIGKILL)
    child.kill()
    child.kill()
    assert len(killed) == 1


def test_a_child_that_is_deaf_dies_with_its_parent():
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", _PARENT_OF_A_DEAF_CHILD], cwd=root, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.5)  # it has fallen deaf
        parent.kill()
    try:
        child.wait(10)
    except psutil.TimeoutExpired:
        child.kill()
        raise
