"""Runs a stage in a child process, so that no sample can hang, bloat or crash a worker for more than a few attempts."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import IO

from ..records.sample import Drop
from ..rundir.rundir import RunDir
from ..steps.limits import Limits, Pool
from ..steps.outcome import Outcome, failed
from .run_shard import MapStep
from .samples import Isolation

_FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1"}  # unless the environment says otherwise: numpy's spin while they wait
_LOOK_EVERY_S = 0.5
_MOST_DEATHS = 30  # over one shard, without finding who is to blame: then it is the stage, not its samples
_MOST_LEFT_OUT = 50
_LAST_WORDS_WITHIN_S = 10.0


@dataclass(frozen=True)
class StageSpec:
    """A map step as it is sent to workers. The step stays pickled: only the child needs the stage's own imports."""

    node: str
    column: str
    pool: Pool
    limits: Limits
    sample_limit_s: float
    pickled: bytes

    @staticmethod
    def of(step: MapStep, run: RunDir) -> StageSpec:
        """The order to run a step in a run directory."""
        node, stage = step.node, step.stage
        limit_s = node.limits.sample_s or stage.sample_limit_s
        return StageSpec(node.name, stage.writes.name, node.pool, node.limits, limit_s, pickle.dumps((step, run)))


@dataclass(frozen=True)
class Death:
    """The end of a child: why, and over which samples."""

    code: str
    detail: str
    in_flight: tuple[str, ...]


class Supervisor:
    """One worker of one stage. Its child is replaced when it dies, takes too long over a sample, or grows too big."""

    def __init__(self, order: StageSpec, run: RunDir, log: IO[bytes] | None = None) -> None:
        """`log` takes what the stage prints."""
        self._order, self._run, self._log = order, run, log
        self._child: _Child | None = None

    def run(self, shard: str) -> Outcome:
        """Brings a shard up to date; samples that keep killing children are dropped, retryable."""
        history = _History(self._order.limits.attempts)
        while True:
            self._child = self._child or _Child(self._order, self._log)
            ended = self._child.do(shard, history.isolation())
            if isinstance(ended, Outcome):
                return ended
            self.close()
            if error := history.learn(ended):
                return failed(self._order.node, self._order.column, self._run, shard, error)

    def close(self) -> None:
        """Ends the child; safe at any time."""
        if self._child:
            self._child.kill()
        self._child = None


@dataclass
class _History:
    """What the deaths over one shard have taught."""

    attempts: int
    _alone: set[str] = field(default_factory=set)
    _left_out: dict[str, Drop] = field(default_factory=dict)
    _deaths: Counter[str] = field(default_factory=Counter)  # by sample
    _idle_deaths: int = 0  # with no sample in hand
    _in_vain: int = 0  # since a sample was last given up

    def isolation(self) -> Isolation:
        """What the next child should know."""
        return Isolation(frozenset(self._alone), dict(self._left_out))

    def learn(self, death: Death) -> str:
        """Takes a death into account; returns why the shard is to be given up, empty if it is not.

        A batch is tried once more as it is, for it may not have been its fault; then its samples go one by one.
        """
        keys = death.in_flight
        self._in_vain += 1
        self._idle_deaths += not keys
        self._deaths.update(keys)
        if self._idle_deaths >= self.attempts or self._in_vain >= _MOST_DEATHS or len(self._left_out) >= _MOST_LEFT_OUT:
            return f"workers keep dying, the last {death.detail}{' over ' + keys[0] if keys else ''}"
        hung = death.code == "timed_out"  # trying again would take as long again
        if len(keys) > 1 and (hung or max(self._deaths[key] for key in keys) >= min(2, self.attempts)):
            self._alone.update(keys)
            for key in keys:
                del self._deaths[key]  # it may have been any of them
        elif len(keys) == 1 and (hung or self._deaths[keys[0]] >= self.attempts):
            detail = f"{death.detail}, attempt {self._deaths[keys[0]]}"
            self._left_out[keys[0]] = Drop(keys[0], death.code, detail, retryable=True)
            self._in_vain = 0
        return ""


class _Child:
    """The process that does the work. It leads a group of its own, and ends when its standard input does."""

    def __init__(self, order: StageSpec, log: IO[bytes] | None) -> None:
        self._order = order
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dap_engine.engine.execution.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**_FEW_THREADS, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(ours.detach())
        self._in_flight: tuple[str, ...] = ()
        self._since_s = 0.0
        with suppress(OSError):  # of a child that is dead already; `do` will notice
            self._connection.send_bytes(order.pickled)

    def do(self, shard: str, isolation: Isolation) -> Outcome | Death:
        """One attempt at a shard."""
        self._in_flight = ()
        try:
            self._connection.send((shard, isolation))
            return self._follow()
        except (EOFError, OSError):
            return Death("worker_died", self._last_words(), self._in_flight)

    def kill(self) -> None:
        """Ends the process and those it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        if self._process.stdin:
            self._process.stdin.close()

    def _follow(self) -> Outcome | Death:
        looked_s = time.monotonic()
        while True:
            if self._connection.poll(_LOOK_EVERY_S):
                message = self._connection.recv()
                if isinstance(message, Outcome):
                    return message
                self._in_flight, self._since_s = tuple(message), time.monotonic()
            elif self._process.poll() is not None:  # dead, though something that it has started holds the connection
                raise EOFError
            if time.monotonic() - looked_s > _LOOK_EVERY_S:
                looked_s = time.monotonic()
                if reason := self._too_much():
                    return Death(*reason, self._in_flight)

    def _last_words(self) -> str:
        try:
            status = self._process.wait(_LAST_WORDS_WITHIN_S)
        except subprocess.TimeoutExpired:  # it lives, but is not to be talked to any more
            return "by falling silent"
        if status >= 0:
            return f"with exit status {status}"
        name = signal.Signals(-status).name
        return f"by {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else "")

    def _too_much(self) -> tuple[str, str] | None:
        patience_s = self._order.sample_limit_s * len(self._in_flight)
        if self._in_flight and time.monotonic() - self._since_s > patience_s:
            return "timed_out", f"took longer than {patience_s:g} s"
        memory_bytes = self._order.pool.memory_gib * 2**30
        if memory_bytes and _resident_bytes(self._process.pid) > memory_bytes:
            return "out_of_memory", f"took more than {memory_bytes / 2**30:g} GiB"
        return None


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # gone: the connection will tell
        return 0
