"""The sections in their order, the most wanted first, each within its time; an error ends one, not the others."""

import os
import platform
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dap_engine.models.inference.device import choose_device
from tests.gpu import agreement, networks, stages, training
from tests.gpu.bench import Bench
from tests.gpu.report import Measurement, Report
from tests.gpu.sizes import FULL, TINY

Section = Callable[[Bench], Iterator[Measurement]]

SECTIONS: dict[str, tuple[Section, float]] = {
    "dense": (networks.dense, 30),
    "forward": (networks.forward, 100),
    "label": (stages.label, 60),
    "steps": (training.steps, 130),
    "losses": (training.losses, 40),
    "loader": (training.loader, 70),
    "score": (stages.score, 30),
    "tag": (stages.tag, 60),
    "gpu-tests": (agreement.gpu_tests, 120),
    "compiled-whole": (networks.forward_compiled_whole, 120),
}
"""What each section does, and the seconds after which it is cut off."""

PACKAGES = ("dap-engine", "torch", "transformers", "lightning", "opencv-python-headless", "simplejpeg")
OPTIONAL = ("ray", "av", "decord2", "embreex", "trimesh", "qwen-vl-utils", "moto")
"""Packages that nothing here needs; of those that are not there, the report says so."""


class TimeUpError(BaseException):
    """Not an Exception: what catches those on its way must not catch this."""


def measure(names: Sequence[str], out: Path, minutes: float, *, tiny: bool) -> int:
    """Runs the sections and leaves gpu.json and gpu.md in `out`; returns 1 if any failed."""
    ends = time.monotonic() + 60 * minutes
    report = Report(out, _machine())
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # tiny tensors gain nothing from threads
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(choose_device("auto"), TINY if tiny else FULL, Path(folder))
        for name in names:
            _run(name, bench, report, ends - time.monotonic())
    print("\n" + report.table())
    if report.failed:
        print(f"failed: {', '.join(report.failed)}")
    return int(bool(report.failed))


def _run(name: str, bench: Bench, report: Report, left_s: float) -> None:
    section, limit_s = SECTIONS[name]
    if left_s < 5:
        report.note(name, **{"left out": "no time left"})
        return
    started = time.monotonic()
    try:
        with _time_limit(min(limit_s, left_s)):
            for measurement in section(bench):
                report.add(name, measurement)
    except TimeUpError:
        report.note(name, **{"left out": f"the rest, after {time.monotonic() - started:.0f} s"})
    except Exception as error:  # noqa: BLE001 - the next section may work
        report.note(name, error=f"{type(error).__name__}: {str(error)[:500]}", traceback=traceback.format_exc()[-3000:])
    report.note(name, seconds=round(time.monotonic() - started, 1))
    bench.clear()


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _machine() -> dict[str, Any]:
    versions = {package: found for package in PACKAGES if (found := _version(package))}
    memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
    card = f"{torch.cuda.get_device_name()}, {memory_gib:.0f} GiB" if memory_gib else "none, measured on the CPU"
    return {
        "device": card,
        "CPU cores": len(os.sched_getaffinity(0)),
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {found}" for package, found in versions.items()),
        "not there, not needed": ", ".join(package for package in OPTIONAL if not _version(package)) or "nothing",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
