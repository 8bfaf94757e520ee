"""The line of an error that people see: why, whatever else its text holds."""

import traceback

import pytest

from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.worker_log import WorkerLog
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.outcome import Outcome, cause_line


def raises(error):
    raise error


def text_of(make):
    try:
        make()
    except Exception:  # noqa: BLE001 - whatever is raised
        return traceback.format_exc()
    raise AssertionError


def with_a_note():
    error = ValueError("too wide")
    error.add_note("Hint: in 0003.jpg")
    raise error


def a_group():
    try:
        raises(KeyError("one"))
    except KeyError as one:
        raise ExceptionGroup("several", [one]) from None


def with_a_traceback_in_its_message():
    try:
        with_a_note()
    except ValueError:
        raise RuntimeError(f"the child failed:\n{traceback.format_exc()}") from None


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: raises(ValueError("plain")), "ValueError: plain"),
        (lambda: raises(AssertionError()), "AssertionError"),
        (with_a_note, "ValueError: too wide"),
        (a_group, "KeyError: 'one'"),
        (lambda: raises(ExceptionGroup("several", [ValueError("x")])), "ExceptionGroup: several (1 sub-exception)"),
        (with_a_traceback_in_its_message, "ValueError: too wide"),
    ],
)
def test_of_a_traceback_it_is_the_exception(make, cause):
    assert cause_line(text_of(make)) == cause


@pytest.mark.parametrize(
    ("text", "cause"), [("first\nlast \n\n", "last"), ("", "no message"), (" \n", "no message"), ("\ud800", "\ud800")]
)
def test_of_other_text_it_is_the_last_line(text, cause):
    assert cause_line(text) == cause


def test_a_failure_without_text_is_shown(capsys):
    progress = Progress()
    progress.start("tag", 1, 0, {"new": 1}, by_shard=True)
    progress.update(Outcome("tag", "column", "0000", "failed"))
    progress.close()
    assert "tag: shard 0000 failed: no message" in capsys.readouterr().err


def test_a_log_takes_any_text(tmp_path):
    log = WorkerLog(RunDir(str(tmp_path)), "tag")
    log.add(Outcome("tag", "column", "0000", "failed", error="no file \ud800.jpg"))
    (path,) = (tmp_path / "logs" / "tag").iterdir()
    assert "no file \\ud800.jpg" in path.read_text()
