"""What became of one shard at one step, and the line of an error that says why."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from ..rundir.commit import fail
from ..rundir.rundir import RunDir

_GROUP_MARGIN = re.compile(r"^ *[|+] ?", re.MULTILINE)  # of the traceback of an exception group


@dataclass(frozen=True)
class Outcome:
    """What became of one shard at one node."""

    node: str
    column: str
    shard: str
    status: Literal["done", "cached", "failed", "waiting"]  # waiting: an input of the shard is missing
    samples_in: int = 0
    samples_out: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    bytes: int = 0
    predict_seconds: float = 0.0  # of these seconds that a model was at work
    error: str = ""
    fatal: bool = False  # failed before the first sample, in a way that every other shard would, too


def failed(node: str, column: str, run: RunDir, shard: str, error: str, *, fatal: bool = False) -> Outcome:
    """The outcome of a shard that failed; why is left beside its receipt, as far as the storage lets us."""
    try:
        fail(run, column, shard, error)
    except OSError as lost:
        error = f"{error.rstrip()} (could not be written down: {lost})"
    return Outcome(node, column, shard, "failed", error=error, fatal=fatal)


def cause_line(text: str) -> str:
    """The line of an error's text that says why: of a traceback the exception's own, else the last that is not empty.

    Never raises; of a text without words it is `no message`.
    """
    lines = [line for line in _GROUP_MARGIN.sub("", text).splitlines() if line.strip()]
    last_frame = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=len(lines))
    named = (line for line in lines[last_frame:] if not line.startswith(" "))
    return next(named, lines[-1] if lines else "no message").strip()
