"""The one way a shard is done, whoever calls it: tests, the in-process executor, or a Ray actor."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from ..planning.recipe import Node
from ..records.column import FolderColumn
from ..records.sample import Sample
from ..rundir.commit import clear_failure, commit, revalidate
from ..rundir.receipts import Basis, Receipt
from ..rundir.retry_marks import RetryMark, clear_retry_mark, read_retry_mark
from ..rundir.rundir import RunDir
from ..steps.assets import Asset, AssetCache
from ..steps.fingerprint import basis_of
from ..steps.outcome import Outcome, failed
from ..steps.step import SourceStage, Stage
from ..storage.faults import RetryPolicy, StorageError, TransientError, is_full
from .redo import redo
from .samples import NO_ISOLATION, Isolation, ShardWork, report_nothing


@dataclass(frozen=True)
class MapStep:
    """A map stage bound to one run, ready to be sent to a worker."""

    node: Node
    assets: dict[str, Asset] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """The stage itself."""
        assert isinstance(self.node.step, Stage)
        return self.node.step

    def basis(self, inputs: dict[str, Receipt]) -> Basis:
        """What the stage's output of a shard depends on, given the receipts of the shard's inputs."""
        hashes = {column: receipt.output.sha256 for column, receipt in inputs.items()}
        return basis_of(self.stage, {name: asset.sha256 for name, asset in self.assets.items()}, hashes)


class ShardRunner:
    """Runs shards of one map stage, one after another; loads the stage's assets at the first shard that needs work."""

    def __init__(self, step: MapStep, run: RunDir, in_flight: Callable[[Sequence[str]], None] = report_nothing) -> None:
        self._step, self._run, self._in_flight = step, run, in_flight
        self._cache, self._ready, self._retry_policy = AssetCache(run), False, RetryPolicy()

    def run(self, shard: str, isolation: Isolation = NO_ISOLATION) -> Outcome:
        """Brings a shard up to date. An exception of the stage becomes a failed outcome with its traceback kept."""
        name = f"{self._step.stage.writes.name}/{shard}"
        try:
            return self._retry_policy.run(lambda: self._try(shard, isolation), name)
        except StorageError as error:  # no room, waited for in vain
            return self._failed(shard, str(error))

    def close(self) -> None:
        """Releases the stage and the copies of its assets."""
        self._step.stage.teardown()
        self._cache.clear()

    def _try(self, shard: str, isolation: Isolation) -> Outcome:
        """One attempt; raises TransientError where the disk is full, and nothing else."""
        stage = self._step.stage
        try:
            inputs = {column: self._run.receipt(column, shard) for column in stage.reads}
            if None in inputs.values():
                return Outcome(self._step.node.name, stage.writes.name, shard, "waiting")
            present = {column: receipt for column, receipt in inputs.items() if receipt}
            return self._bring_up_to_date(shard, present, isolation)
        except StorageError as error:
            if is_full(error):
                raise TransientError(str(error)) from error
            return self._failed(shard, str(error))
        except Exception:  # noqa: BLE001 - a bug of a stage fails its shard, not the run; the traceback is kept
            return self._failed(shard, traceback.format_exc())

    def _failed(self, shard: str, error: str) -> Outcome:
        return failed(self._step.node.name, self._step.stage.writes.name, self._run, shard, error)

    def _bring_up_to_date(self, shard: str, inputs: dict[str, Receipt], isolation: Isolation) -> Outcome:
        basis, column = self._step.basis(inputs), self._step.stage.writes.name
        done, what = self._current(shard, basis), read_retry_mark(self._run, column, shard)
        if done and what is None:
            clear_failure(self._run, column, shard)  # of an attempt with other settings, since taken back
            return self._outcome(done, "cached")
        self._set_up()
        attempt = Attempt(self._step.stage, shard, self._run, basis, inputs, isolation, self._in_flight)
        receipt = run_shard(attempt, (done, what) if done and what else None)
        clear_retry_mark(self._run, column, shard)
        return self._outcome(receipt, "done")

    def _current(self, shard: str, basis: Basis) -> Receipt | None:
        """The receipt of the shard, if it is what is wanted and agrees with what is stored."""
        done = self._run.receipt(self._step.stage.writes.name, shard)
        if done is None or done.fingerprint != basis.fingerprint:
            return None
        return done if self._run.validates(done) or revalidate(self._run, done) else None

    def _set_up(self) -> None:
        if self._ready:
            return
        self._step.stage.setup({name: self._cache.local(asset) for name, asset in self._step.assets.items()})
        self._ready = True

    def _outcome(self, receipt: Receipt, status: Literal["done", "cached"]) -> Outcome:
        counts = (receipt.samples_in, receipt.samples_out, receipt.drops, receipt.seconds, receipt.output.bytes)
        return Outcome(self._step.node.name, receipt.column, receipt.shard, status, *counts)


@dataclass(frozen=True)
class Attempt:
    """One attempt at one shard of a stage: what it reads, and what is known of its samples."""

    stage: Stage
    shard: str
    run: RunDir
    basis: Basis
    inputs: dict[str, Receipt]
    isolation: Isolation = NO_ISOLATION
    in_flight: Callable[[Sequence[str]], None] = report_nothing

    def batches(self) -> Iterator[list[Sample]]:
        """The shard's samples; what is in a batch follows from the samples alone."""
        if isinstance(self.stage, SourceStage):
            return _batched(self.stage.source(self.shard), self.stage.batch_size)
        return _batched(self.run.samples(list(self.inputs.values())), self.stage.batch_size)


def run_shard(attempt: Attempt, again: tuple[Receipt, RetryMark] | None = None) -> Receipt:
    """Puts the shard's samples through the stage and commits its rows and drops; the receipt comes last.

    `again`: the shard is done, and only what was put back of it is done anew.
    """
    started, stage, run = time.monotonic(), attempt.stage, attempt.run
    with ExitStack() as stack:
        scratch = stack.enter_context(run.storage.scratch())
        work = ShardWork(stage, stage.writes.writer(scratch), attempt.isolation, attempt.in_flight)
        stack.callback(work.writer.close)
        if again and not isinstance(stage.writes, FolderColumn):  # the rows of a folder cannot be read back
            redo(work, attempt.batches(), run, *again)
        else:
            for batch in attempt.batches():
                work.take(batch)
        work.finish()
        return commit(
            run,
            column=stage.writes.name,
            shard=attempt.shard,
            basis=attempt.basis,
            local=work.writer.finish(),
            path=stage.writes.path(attempt.shard),
            samples_in=work.samples_in,
            samples_out=work.samples_out,
            drops=work.drops,
            seconds=time.monotonic() - started,
        )


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, size)):
        yield batch
