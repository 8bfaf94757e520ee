"""Ending in order when a command is told to stop: Ctrl-C, SIGTERM (Slurm, Kubernetes), SIGHUP (a closed terminal)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WITHIN_S = 4.5  # from the signal to the end of the process


class Interruption:
    """Which signal told a command to stop, if any did."""

    def __init__(self, command: str) -> None:
        self._command = command
        self.number = 0
        self._reported = False

    def stop(self, number: int, _: FrameType | None) -> None:
        """Raises KeyboardInterrupt wherever the main thread is. A second signal ends the process at once."""
        self.number = number
        for other in _SIGNALS:
            if signal.getsignal(other) == self.stop:
                signal.signal(other, signal.SIG_DFL)
        watchdog = threading.Timer(_WITHIN_S, self._end)
        watchdog.daemon = True
        watchdog.start()
        raise KeyboardInterrupt

    def report(self, then: str = "") -> int:
        """Says what happened, and what follows from it; returns the exit code, 128 + signal."""
        what = "interrupted" if self.number in (0, signal.SIGINT) else f"stopped by {signal.Signals(self.number).name}"
        if not self._reported:
            self._reported = True
            print(f"dap {self._command}: {what}; {then or 'the same command resumes'}", file=sys.stderr, flush=True)
        return 128 + (self.number or signal.SIGINT)

    def _end(self) -> None:
        """Ends a process that has not come to its end by itself; what it has started ends with it."""
        os._exit(self.report())


@contextmanager
def interruptible(command: str) -> Iterator[Interruption]:
    """Inside, signals that ask to stop raise KeyboardInterrupt; those that are ignored (nohup) stay so."""
    interruption = Interruption(command)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, interruption.stop)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
