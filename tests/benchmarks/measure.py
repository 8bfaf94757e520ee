"""Paired timing: a work and its reference take turns in one run, so that what else the machine does hits both."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

Clock = Callable[[], float]
"""Does something once and tells how many seconds it took."""


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    work: str
    against: str
    ratio: str
    target: str
    figures: str


@dataclass(frozen=True)
class Pair:
    """Seconds of the rounds of a work and of its reference, round by round."""

    work: tuple[float, ...]
    against: tuple[float, ...]

    @property
    def work_s(self) -> float:
        return median(self.work)

    @property
    def against_s(self) -> float:
        return median(self.against)

    @property
    def rate(self) -> float:
        """Rate of the work over that of the reference: 1 is as fast, 0.5 takes twice as long. Median of the rounds."""
        return median(against_s / work_s for work_s, against_s in zip(self.work, self.against, strict=True))


def timed(function: Callable[[], Any]) -> Clock:
    """A clock around a function."""

    def clock() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    return clock


def paired(work: Clock, against: Clock, repeats: int) -> Pair:
    """Both in turns, each first in every other round; a round before the counted ones warms up."""
    rounds = []
    for number in range(repeats + 1):
        if number % 2:
            against_s, work_s = against(), work()
        else:
            work_s, against_s = work(), against()
        rounds.append((work_s, against_s))
    work_seconds, against_seconds = zip(*rounds[1:], strict=True)
    return Pair(work_seconds, against_seconds)


@contextmanager
def one_core() -> Iterator[None]:
    """This process and the children it starts inside, on one core: neither side gains by what runs side by side."""
    before = os.sched_getaffinity(0)
    _pin({min(before)})
    try:
        yield
    finally:
        _pin(before)


def _pin(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # a thread that has just ended
            os.sched_setaffinity(int(thread), cores)
