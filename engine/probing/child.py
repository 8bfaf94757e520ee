"""Measures a stage in a process of its own, which is watched."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
import time
from pathlib import Path

from ..child_process import ChildError, ChildProcess, Parent
from .measure import Measured, ProbeError, ProbeSpec, measure

_LOOK_EVERY_S = 0.05  # at its memory


def measure_apart(spec: ProbeSpec, folder: Path, limit_s: float, *, all_cores: bool = False) -> Measured:
    """Measures a stage in a fresh process, whose log goes to `folder`; raises ProbeError, whose log stays.

    It computes with as many threads as its pool has CPUs, as a worker on Ray does, or on `all_cores`.
    """
    threads = {} if all_cores else {"OMP_NUM_THREADS": str(max(1, int(spec.stage.pool.num_cpus)))}
    log_path = folder / f"{spec.stage.node}.log"
    try:
        with (
            log_path.open("wb") as log,
            ChildProcess(
                _send_measured,
                spec,
                time.monotonic(),
                log=log,
                memory_bytes=math.inf,
                look_every_s=_LOOK_EVERY_S,
                environment=threads,
            ) as child,
        ):
            measured = Measured(**child.receive(limit_s))
            return dataclasses.replace(measured, peak_bytes=max(measured.peak_bytes, child.peak_bytes))
    except ChildError as error:
        why = str(error).removeprefix(f"{ProbeError.__module__}.{ProbeError.__name__}: ")
        raise ProbeError(why, _keep(log_path)) from error


def _send_measured(parent: Parent, spec: ProbeSpec, started_s: float) -> None:
    parent.send(dataclasses.asdict(measure(spec, started_s)))


def _keep(log_path: Path) -> str:
    """A copy of a log that outlives the probe."""
    _, kept = tempfile.mkstemp(prefix=f"dap-probe-{log_path.stem}-", suffix=".log")
    return shutil.copyfile(log_path, kept)
