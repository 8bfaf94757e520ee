"""Two processes at one shard, each led by the hand: no step upon the storage is taken before the test says so."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from dap_engine.engine.execution.run_shard import ShardRunner, StageSpec
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.records.column import Column, ParquetColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.outcome import Outcome
from dap_engine.engine.steps.step import SourceStage
from dap_engine.engine.storage.storage import Storage

SHARD = "0000"
LOOKS = ("read_bytes", "info", "size", "entries", "list", "hash_object", "open")
CHANGES = ("publish", "write_bytes", "delete", "delete_all")
_LOOK_EVERY_S = 0.02


@dataclass
class Log(SourceStage):
    """One row and one drop that say `words`, always of the same size; `asked` alone is in the fingerprint."""

    name = "say"

    words: str
    asked: str = ""

    @property
    def writes(self) -> Column:
        return ParquetColumn("words", pa.schema([("words", pa.string())]))

    def settings(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def shards(self) -> Sequence[str]:
        return [SHARD]

    def source(self, shard: str) -> Iterator[Sample]:
        return iter([Sample("a", {}), Sample("b", {})])

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            yield Row(sample.key, {"words": self.words}) if sample.key == "a" else Drop(sample.key, "said", self.words)


class Attempt:
    """A process that does the shard over and over, each time for another run. It stands still before every step."""

    def __init__(self) -> None:
        self._start()

    def begin(self, words: Log, uri: str) -> None:
        """Starts an attempt; it stands before its first step."""
        if not self._process.is_alive():
            self._start()
        self.at, self._stepping, self.outcome = "", "", None
        self._connection.send((StageSpec.of(Node("say", words)), RunDir(uri)))
        self._hear()

    @property
    def ended(self) -> bool:
        """Whether the attempt is over, or its process dead."""
        return self.outcome is not None or not self._process.is_alive()

    def step(self, look: Callable[[], None]) -> bool:
        """Takes one step, and stands before the next; `look` is called if it changed something.

        False if it waits for the other attempt.
        """
        if self.at:
            self._stepping, self.at = self.at, ""
            self._connection.send(None)
        if not self._hear():
            return False
        if self._stepping.startswith(CHANGES):
            look()
        return True

    def kill(self) -> None:
        """kill -9, where it stands."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.at, self._stepping, self.outcome = "", "", None

    def _hear(self) -> bool:
        while not self._connection.poll(_LOOK_EVERY_S):
            if _waits_for_a_lock(self._process.pid):
                return False
        heard = self._connection.recv()
        if isinstance(heard, Outcome):
            self.outcome = heard
        else:
            self.at = heard
        return True


def play(order: Sequence[int], attempts: Sequence[Attempt], look: Callable[[], None]) -> None:
    """Lets attempts take steps in the given order (indices), and calls `look` after each that changes something.

    An attempt that waits for another is passed over until one that does not has taken a step.
    """
    waiting: set[int] = set()
    for who in order:
        if attempts[who].ended or who in waiting:
            continue
        if attempts[who].step(look):
            waiting.clear()
        else:
            waiting.add(who)


def finish(attempts: Sequence[Attempt], look: Callable[[], None]) -> None:
    """Lets attempts take all the steps that are left, one after the other as far as they can."""
    while not all(attempt.ended for attempt in attempts):
        for attempt in attempts:
            while not attempt.ended and attempt.step(look):
                pass


def _waits_for_a_lock(pid: int | None) -> bool:
    return any("->" in line and str(pid) in line.split() for line in Path("/proc/locks").read_text().splitlines())


def _serve(connection: Connection) -> None:
    standing = _Standing(connection)
    for name in (*LOOKS, *CHANGES):
        setattr(Storage, name, standing.before(name, getattr(Storage, name)))
    while True:
        spec, run = connection.recv()
        connection.send(ShardRunner(spec, run).run(SHARD))


class _Standing:
    """Makes a method of Storage wait for the word; what it calls itself belongs to the same step."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._inside = connection, False

    def before(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def waiting(storage: Storage, *arguments: Any) -> Any:
            if self._inside:
                return method(storage, *arguments)
            self._connection.send(f"{name} {' '.join(map(str, arguments))[-60:]}")
            self._connection.recv()
            self._inside = True
            try:
                return method(storage, *arguments)
            finally:
                self._inside = False

        return waiting
