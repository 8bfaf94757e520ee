"""The process of a probe (`python -m …`), and its parent, which watches its memory and its time."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from .measure import Measured, ProbeError, ProbeOrder, measure

_LOOK_EVERY_S = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def measure_apart(order: ProbeOrder, folder: Path, limit_s: float) -> Measured:
    """Measures a stage in a fresh process, which leaves its files in `folder`; raises ProbeError."""
    order_path, result_path, log_path = (folder / f"{order.node.name}.{kind}" for kind in ("order", "result", "log"))
    order_path.write_bytes(pickle.dumps(order))
    arguments = [order_path, result_path, time.monotonic(), math.ceil(limit_s)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dap_engine.engine.probing.child", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(order.node.pool.num_cpus),
        )
    peak_bytes = _watch(process, limit_s)
    if not result_path.exists():
        raise ProbeError(_last_words(process.returncode, log_path))
    result = json.loads(result_path.read_text())
    if "error" in result:
        raise ProbeError(result["error"])
    measured = Measured(**result)
    return dataclasses.replace(measured, peak_bytes=max(measured.peak_bytes, peak_bytes))


def _environment(num_cpus: float) -> dict[str, str]:
    """That of a worker: as many threads as it has CPUs, which is what Ray sets as well."""
    threads = {"OMP_NUM_THREADS": str(max(1, int(num_cpus)))}
    return {**threads, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _watch(process: subprocess.Popen[bytes], limit_s: float) -> int:
    """Waits for the end; returns the most memory that the process and its children held together, in bytes."""
    peak_bytes, deadline_s = 0, time.monotonic() + limit_s
    try:
        while process.poll() is None:
            if time.monotonic() > deadline_s:
                raise ProbeError(f"took longer than {limit_s:g} s")
            peak_bytes = max(peak_bytes, _resident_bytes(process.pid))
            time.sleep(_LOOK_EVERY_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it may have left behind
        process.wait()
    return peak_bytes


def _resident_bytes(group: int) -> int:
    """Memory held by all processes of a group."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended meanwhile
            if os.getpgid(int(pid)) == group:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def _last_words(status: int, log_path: Path) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return f"died by {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else "")
    lines = log_path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"ended with exit status {status}"


def main(order_path: str, result_path: str, started_s: str, limit_s: str) -> None:
    """Reads an order, leaves the result or the error as JSON."""
    signal.alarm(2 * int(limit_s))  # for a parent that was killed and cannot end this process
    order: ProbeOrder = pickle.loads(Path(order_path).read_bytes())  # noqa: S301 - from our own parent process
    try:
        result = dataclasses.asdict(measure(order, float(started_s)))
    except ProbeError as error:
        result = {"error": str(error)}
    Path(result_path).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
