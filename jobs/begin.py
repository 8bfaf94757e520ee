"""The beginning of all work in a run directory: everything is checked, and no other run works there."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ..engine.execution.runner import check_nodes
from ..engine.rundir.holder import hold
from ..engine.storage.storage import Storage
from .job import Job


def add_take_over_argument(parser: argparse.ArgumentParser) -> None:
    """The argument of all commands that work in a run directory."""
    parser.add_argument(
        "--take-over", action="store_true", help="end the run that holds the run directory, and go on in its place"
    )


@contextmanager
def begun(job: Job, take_over: bool = False) -> Iterator[None]:
    """Checks everything, then holds the run directory: see `held`."""
    check_nodes(job.nodes)
    with held(job.run.storage, take_over=take_over):
        yield


def held(storage: Storage, *, take_over: bool) -> AbstractContextManager[None]:
    """Inside, a folder is this run's; raises HeldError if it is another's, unless that is taken over.

    Who loses it to another run is told to stop as by SIGTERM, if that is handled.
    """
    return hold(storage, _own_name(), take_over=take_over, say=_say, on_loss=_stop_for_another)


def _own_name() -> str:
    """What others are told of this run: the job of Ray or of Slurm that it is, else its process."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("metadata", {})
    if name := submitted.get("job_submission_id"):
        return f"job {name}"
    slurm = os.environ.get("SLURM_JOB_ID")
    return f"Slurm job {slurm}" if slurm else f"process {os.getpid()}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stop_for_another() -> None:
    _say("another run has taken over this run directory (--take-over): this one ends")
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
