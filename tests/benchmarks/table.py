"""The results on the terminal and as BENCHMARKS.md."""

import dataclasses
import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Result

HEADINGS = ("work", "against", "ratio", "target", "absolute figures")
PACKAGES = ("torch", "ray", "transformers", "decord2", "opencv-python-headless", "simplejpeg", "pyarrow")
DOCUMENT = """# Benchmarks

Written by `make bench`. A ratio is our rate over that of the named reference (1: as fast), in %: our part of its time.
It is the median of {repeats} rounds in which the two took turns, after one that does not count. Targets are goals, not
tests: nothing fails here.

{machine}

{table}
"""


def show(results: Sequence[Result], machine: str) -> None:
    """Prints the table for people."""
    table = Table(*HEADINGS, show_lines=True)
    for result in results:
        table.add_row(*dataclasses.astuple(result))
    console = Console()
    console.print(table)
    console.print(machine, markup=False, highlight=False, soft_wrap=True)


def document(results: Sequence[Result], machine: str, repeats: int) -> str:
    """The table as Markdown, with how it came about."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *(dataclasses.astuple(result) for result in results)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return DOCUMENT.format(repeats=repeats, machine=machine, table=table)


def describe_machine() -> str:
    """Machine, date and versions, a line each."""
    cores, memory_gib = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"- Machine: {_cpu_model()}, {cores} cores, {memory_gib:.0f} GiB{gpu}; load before: {os.getloadavg()[0]:.1f}\n"
        f"- Date: {date.today()}\n"
        f"- Versions: dap-engine {version('dap-engine')}, Python {platform.python_version()}, {packages}"
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
