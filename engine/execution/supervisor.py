"""Runs a stage in a child process, so that no sample can hang, bloat or crash a worker for more than a few attempts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from ..child_process import ChildError, ChildProcess, Parent
from ..records.sample import Drop
from ..rundir.rundir import RunDir
from ..steps.outcome import Outcome, failed
from .run_shard import ShardRunner, StageSpec
from .samples import Isolation

_FEW_THREADS = {"OPENBLAS_NUM_THREADS": "1"}  # unless the environment says otherwise: numpy's spin while they wait
_MOST_DEATHS = 30  # over one shard, without finding who is to blame: then it is the stage, not its samples
_MOST_LEFT_OUT = 50


class Supervisor:
    """One worker of one stage. Its child is replaced when it dies, takes too long over a sample, or grows too big."""

    def __init__(self, spec: StageSpec, run: RunDir, log: IO[bytes] | None = None) -> None:
        """`log` takes what the stage prints."""
        self._spec, self._run, self._log = spec, run, log
        self._child: ChildProcess | None = None
        self._in_flight: Sequence[Sequence[str]] = ()  # keys, by batch

    def run(self, shard: str) -> Outcome:
        """Brings a shard up to date; samples that keep killing children are dropped, retryable.

        If the child ends by an exception, every other child would too: the outcome is fatal.
        """
        history = _History(self._spec.limits.attempts, self._spec.whole_batches)
        while True:
            try:
                return self._attempt(shard, history.isolation())
            except ChildError as death:
                self.close()
                error = death.traceback or history.record_death(death, self._in_flight)
                if error:
                    fatal = death.code == "raised"
                    return failed(self._spec.node, self._spec.column, self._run, shard, error, fatal=fatal)

    def close(self) -> None:
        """Ends the child; safe at any time."""
        if self._child:
            self._child.kill()
        self._child = None

    def _attempt(self, shard: str, isolation: Isolation) -> Outcome:
        self._in_flight = ()
        memory_bytes = self._spec.pool.memory_gib * 2**30 or None
        self._child = self._child or ChildProcess(
            _serve, self._spec, self._run, log=self._log, memory_bytes=memory_bytes, environment=_FEW_THREADS
        )
        self._child.send((shard, isolation))
        while True:
            limit_s = self._spec.sample_limit_s * sum(map(len, self._in_flight)) or None
            message = self._child.receive(limit_s)
            if isinstance(message, dict):
                return Outcome(**message)
            self._in_flight = message


def _serve(parent: Parent, spec: StageSpec, run: RunDir) -> None:
    """The child: sends the keys that are in flight as they change, and what became of each shard."""
    runner = ShardRunner(spec, run, in_flight=parent.send)
    while True:
        try:
            shard, isolation = parent.receive()
        except EOFError:
            return
        parent.send(dataclasses.asdict(runner.run(shard, isolation)))


@dataclass
class _History:
    """The deaths of children over one shard, and what follows from them for its samples."""

    attempts: int
    whole_batches: bool
    _apart: set[str] = field(default_factory=set)
    _alone: set[str] = field(default_factory=set)
    _left_out: dict[str, Drop] = field(default_factory=dict)
    _deaths: Counter[str] = field(default_factory=Counter)  # by sample
    _idle_deaths: int = 0  # with no sample in flight
    _in_vain: int = 0  # since a sample was last given up

    def isolation(self) -> Isolation:
        """What the next child should know."""
        return Isolation(frozenset(self._apart), frozenset(self._alone), dict(self._left_out))

    def record_death(self, death: ChildError, in_flight: Sequence[Sequence[str]]) -> str:
        """Takes a death over some batches into account; returns why the shard is given up, empty if it is not.

        Of several batches each is tried by itself. A single one is tried once more as it is, for it may not have been
        its fault; then its samples go one by one, or the shard is given up whose batches stay whole.
        """
        keys = [key for batch in in_flight for key in batch]
        self._in_vain += 1
        self._idle_deaths += not keys
        if self._idle_deaths >= self.attempts or self._in_vain >= _MOST_DEATHS or len(self._left_out) >= _MOST_LEFT_OUT:
            return f"workers keep dying, the last {death}{' over ' + keys[0] if keys else ''}"
        if len(in_flight) > 1:
            self._apart.update(keys)
            return ""
        self._deaths.update(keys)
        hung = death.code == "timed_out"  # trying again would take as long again
        if len(keys) > 1 and (hung or max(self._deaths[key] for key in keys) >= min(2, self.attempts)):
            if self.whole_batches:
                return f"a worker {death} over the batch of {keys[0]}, whose samples are not tried one by one"
            self._alone.update(keys)
            for key in keys:
                del self._deaths[key]  # it may have been any of them
        elif len(keys) == 1 and (hung or self._deaths[keys[0]] >= self.attempts):
            code = "worker_died" if death.code == "died" else death.code
            detail = f"{death}, attempt {self._deaths[keys[0]]}"
            self._left_out[keys[0]] = Drop(keys[0], code, detail, retryable=True)
            self._in_vain = 0
        return ""
