"""Where the workers of a stage leave what they have to say: `logs/<step>/<host>-<pid>.log` of the run."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from ..rundir.rundir import RunDir
from ..steps.outcome import Outcome
from . import samples

FOLDER = "logs"


class WorkerLog:
    """One worker's log. On a disk it is written in place; for an object store, anew after every shard.

    A log that cannot be written costs no shard: then there is none.
    """

    def __init__(self, run: RunDir, node: str) -> None:
        self._run, self._stack = run, ExitStack()
        self._path = f"{FOLDER}/{node}/{socket.gethostname()}-{os.getpid()}.log"
        self.file: IO[bytes] | None = None
        with suppress(OSError):
            self._local = self._place()
            self.file = self._stack.enter_context(self._local.open("ab", buffering=0))

    def add(self, outcome: Outcome) -> None:
        """A line on what became of a shard, after whatever the stage itself has said."""
        if self.file is None:
            return
        words = [f"shard {outcome.shard} {outcome.status}"]
        if outcome.status == "done":
            words.append(f"{outcome.samples_in} in, {outcome.samples_out} out, {outcome.seconds:.1f} s")
        words += [f"dropped {count} {code}" for code, count in outcome.drops.items()]
        words += [outcome.error.rstrip()] if outcome.error else []
        with suppress(OSError):
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {', '.join(words)}\n"
            self.file.write(line.encode(errors="backslashreplace"))
            if not self._run.storage.is_local:
                self._run.storage.write_bytes(self._path, self._local.read_bytes())

    def close(self) -> None:
        """Lets go of the file."""
        self._stack.close()

    def _place(self) -> Path:
        if self._run.storage.is_local:
            place = Path(self._run.storage.locate(self._path))
        else:
            place = self._stack.enter_context(self._run.storage.scratch()) / "log"
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


class SampleTracebacks(logging.Handler):
    """Takes what samples raise in this process to the log of their stage; without any, there is no log."""

    def __init__(self, run: RunDir, node: str) -> None:
        super().__init__()
        self._run, self._node = run, node
        self._log: WorkerLog | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, they go there rather than to the terminal."""
        logger = logging.getLogger(samples.__name__)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._log = self._log or WorkerLog(self._run, self._node)
        if self._log.file:
            with suppress(OSError):
                self._log.file.write(f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def add(self, outcome: Outcome) -> None:
        """A line on what became of the shard."""
        if self._log:
            self._log.add(outcome)

    def close(self) -> None:
        if self._log:
            self._log.close()
        super().close()
