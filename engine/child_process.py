"""A function in a child process, watched from here: its time, its memory, its exceptions and its death.

The child begins with the import path of this process, leads a process group of its own, and ends when this process
does, however that ends. What is sent to it is pickled. What it sends is JSON: it may have opened files of strangers.
An exception comes with its traceback; of a child that was killed, only how is known.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

import psutil

from .steps.outcome import cause_line

_LAST_WORDS_WITHIN_S = 10.0
_MOST_EARLY_BYTES = 1 << 20  # that a child may print before it begins
_MOST_MESSAGE_BYTES = 64 << 20


class ChildError(RuntimeError):
    """The end of a child before it had sent what was waited for. The message is one line.

    code: `raised` (`traceback` has all of the exception), `timed_out`, `out_of_memory` or `died`.
    """

    def __init__(
        self, code: Literal["raised", "timed_out", "out_of_memory", "died"], detail: str, traceback: str = ""
    ) -> None:
        super().__init__(detail)
        self.code, self.traceback = code, traceback


class ChildProcess:
    """Runs `function(parent, *arguments)`, with `parent` a `Parent`, in a process of its own until `kill`."""

    def __init__(
        self,
        function: Callable[..., None],
        *arguments: Any,
        log: IO[bytes] | int | None = None,
        memory_bytes: float | None = None,
        look_every_s: float = 0.5,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`log` takes all that the child prints, as Popen's `stdout`. Our own environment goes before `environment`.

        memory_bytes: the most that the child may hold together with its own children; None: that is not watched.
        """
        self._memory_bytes, self._look_every_s, self._looked_s = memory_bytes, look_every_s, 0.0
        self.peak_bytes = 0  # the most that was seen
        self._log = log
        self._early = os.memfd_create("stderr")  # what the child prints until it begins: why it does not
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=self._early,
                start_new_session=True,
                env={**environment, **os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        self._connection = Connection(ours.detach())
        try:
            self.send((function, arguments))
        except BaseException:  # it cannot be pickled
            self.kill()
            raise

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def send(self, message: Any) -> None:
        """Sends what can be pickled."""
        with suppress(OSError):  # of a child that is dead: `receive` will tell
            self._connection.send(message)

    def receive(self, limit_s: float | None = None) -> Any:
        """The next thing that the child sends; raises ChildError if there is none, or not within `limit_s` seconds."""
        since_s = time.monotonic()
        try:
            while not self._connection.poll(self._look_every_s):
                if self._process.poll() is not None and not self._connection.poll():
                    raise EOFError  # something that it has started holds the connection
                if limit_s is not None and time.monotonic() - since_s > limit_s:
                    raise ChildError("timed_out", f"took longer than {limit_s:g} s")
                self._check_memory()
            kind, content = json.loads(self._connection.recv_bytes(_MOST_MESSAGE_BYTES))
        except (EOFError, OSError):
            if not self._connection.readable:
                raise ChildError("died", f"sent more than {_MOST_MESSAGE_BYTES >> 20} MiB at once") from None
            raise self._death() from None
        if kind == "raised":
            raise ChildError("raised", cause_line(content), content)
        self._check_memory()
        return content

    def kill(self) -> None:
        """Ends the child and all that it has started; safe at any time."""
        if self._connection.closed:
            return  # what has its number now may be another process
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        os.close(self._early)
        if self._process.stdin:
            self._process.stdin.close()

    def _check_memory(self) -> None:
        if self._memory_bytes is None or time.monotonic() - self._looked_s < self._look_every_s:
            return
        self._looked_s = time.monotonic()
        held_bytes = _resident_bytes(self._process.pid)
        self.peak_bytes = max(self.peak_bytes, held_bytes)
        if held_bytes > self._memory_bytes:
            raise ChildError("out_of_memory", f"took more than {self._memory_bytes / 2**30:g} GiB")

    def _death(self) -> ChildError:
        try:
            status = self._process.wait(_LAST_WORDS_WITHIN_S)
        except subprocess.TimeoutExpired:  # it lives, but has closed its side
            return ChildError("died", "died by falling silent")
        if status < 0:
            name = signal.Signals(-status).name
            return ChildError("died", f"died by {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else ""))
        if status and (early := os.pread(self._early, _MOST_EARLY_BYTES, 0)):
            if self._log and not isinstance(self._log, int):
                with suppress(OSError):
                    self._log.write(early)
            text = early.decode(errors="replace")
            return ChildError("raised", cause_line(text), text)
        return ChildError("died", f"died with exit status {status}")


def _resident_bytes(pid: int) -> int:
    """Memory that a process and its descendants hold; 0 once it has ended."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it has ended meanwhile
                total += member.memory_info().rss
    return total


class Parent:
    """The other side, as the function in the child sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, content: Any) -> None:
        """Sends what JSON can hold."""
        self._send("content", content)

    def receive(self) -> Any:
        """What the parent has sent next; raises EOFError if it will send no more."""
        return pickle.loads(self._connection.recv_bytes())  # noqa: S301 - from our own parent process

    def run(self) -> None:
        """Runs what the parent asks for; an exception is sent to it."""
        try:
            function, arguments = self.receive()
            function(self, *arguments)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException:  # noqa: BLE001 - it is the parent's to judge; sys.exit() would end us with exit status 0
            traceback.print_exc()
            self._send("raised", traceback.format_exc())

    def _send(self, kind: str, content: Any) -> None:
        self._connection.send_bytes(json.dumps([kind, content]).encode())


def _raise_oom_score() -> None:
    """A system out of memory shall kill this process, not its parent, which will find out who is to blame."""
    with suppress(OSError):  # no such file but on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent() -> None:
    """Standard input ends with the parent, however that ends; so does this process, with all it has started.

    The system sends the signal, also while code without a way back to Python runs; a thread looks as well.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it has ended before
        os.killpg(0, signal.SIGKILL)
    threading.Thread(target=_await_end_of_parent, daemon=True).start()


def _await_end_of_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


def _print_to_log() -> None:
    """Standard error has been the parent's file up to here; it is emptied and its content goes to the log."""
    early = os.pread(2, _MOST_EARLY_BYTES, 0)
    os.ftruncate(2, 0)
    os.dup2(1, 2)
    with suppress(OSError):  # a disk may be full
        os.write(2, early)


if __name__ == "__main__":
    _raise_oom_score()
    _end_with_parent()
    _print_to_log()
    Parent(Connection(int(sys.argv[1]))).run()
