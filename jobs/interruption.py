"""Ending in order when a command is told to stop: Ctrl-C, SIGTERM (Slurm, Kubernetes), SIGHUP (a closed terminal)."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RESUMING = ("run", "submit", "retry", "simulate", "train")  # commands that go on where they were stopped
_WITHIN_S = 4.5  # from the signal to the end of the process

os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # what a forked child is sent is not for us


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
        signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's raises for workers that are stopped with us
        raise KeyboardInterrupt

    def watch(self, signals: socket.socket) -> None:
        """Ends the process some seconds after a signal, should it not end by itself; what it has started ends with it.

        Python writes a signal's number to `signals` at once, though the main thread be in a call that nothing breaks
        off, such as waiting for another rank.
        """
        with signals:
            while number := signals.recv(1):
                if signal.Signals(number[0]) in _SIGNALS:
                    time.sleep(_WITHIN_S)
                    self.number = number[0]
                    os._exit(self.report())

    def report(self, then: str = "") -> int:
        """Says what happened, and what follows from it; returns the exit code, 128 + signal."""
        what = "interrupted" if self.number in (0, signal.SIGINT) else f"stopped by {signal.Signals(self.number).name}"
        if not self._reported:
            self._reported = True
            then = then or ("the same command resumes" if self._command in _RESUMING else "")
            print(f"dap {self._command}: {what}{then and f'; {then}'}", file=sys.stderr, flush=True)
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def interruptible(command: str) -> Iterator[Interruption]:
    """Inside, signals that ask to stop raise KeyboardInterrupt; those that are ignored (nohup) stay so."""
    interruption = Interruption(command)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    signals, python = socket.socketpair()
    python.setblocking(False)
    threading.Thread(target=interruption.watch, args=(signals,), daemon=True).start()
    writes_to = signal.set_wakeup_fd(python.fileno(), warn_on_full_buffer=False)
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, interruption.stop)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(writes_to)
        python.close()
