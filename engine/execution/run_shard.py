"""Running one shard of one stage. Every executor, the probe and the tests call this code, and so agree in bytes."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
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
from ..steps.limits import Limits, Pool
from ..steps.outcome import Outcome, failed
from ..steps.step import BrokenStageError, PipelinedStage, SourceStage, Stage, StageContext
from ..storage.faults import RetryPolicy, StorageError, TransientError, is_full
from .pipeline import read_ahead
from .redo import redo
from .samples import NO_ISOLATION, Isolation, ShardWork

_FEWEST_THREADS = 2  # of a pipelined stage: one may decode while another encodes


@dataclass(frozen=True)
class StageSpec:
    """A map stage as executors and workers know it. It stays pickled: only who runs it needs the stage's imports."""

    node: str
    column: str
    pool: Pool
    limits: Limits
    sample_limit_s: float
    pickled: bytes  # the stage, and its assets by name
    whole_batches: bool = False  # as of the stage

    @staticmethod
    def of(node: Node, assets: Mapping[str, Asset] = MappingProxyType({})) -> StageSpec:
        """The spec of a node that is a map stage; raises whatever pickle does if the stage cannot be sent."""
        stage = node.step
        assert isinstance(stage, Stage)
        limit_s = node.limits.sample_s or stage.sample_limit_s
        pickled = pickle.dumps((stage, dict(assets)))
        column = stage.writes.name
        return StageSpec(node.name, column, node.pool, node.limits, limit_s, pickled, stage.whole_batches)


class ShardRunner:
    """Runs shards of one map stage, one after another; sets the stage up at the first shard that needs work."""

    def __init__(
        self,
        spec: StageSpec,
        run: RunDir,
        in_flight: Callable[[Sequence[Sequence[str]]], None] = lambda _: None,
        home: RunDir | None = None,
    ) -> None:
        """`in_flight` is told the keys that the stage is working on, batch by batch.

        `home`: the run that holds assets, and objects that samples name, if that is not the one to write to.
        """
        self._spec, self._run, self._in_flight, self._home = spec, run, in_flight, home or run
        self.stage: Stage
        self._assets: dict[str, Asset]
        self.stage, self._assets = pickle.loads(spec.pickled)  # noqa: S301 - pickled by our own driver
        self._cache, self._retry_policy = AssetCache(self._home), RetryPolicy()
        self._ready = self._cannot_begin = False

    def run(self, shard: str, isolation: Isolation = NO_ISOLATION) -> Outcome:
        """Brings a shard up to date. What the stage raises becomes a failed outcome with its traceback kept."""
        try:
            return self._retry_policy.run(lambda: self._try(shard, isolation), f"{self._spec.column}/{shard}")
        except StorageError as error:  # no room, waited for in vain
            return self._failed(shard, str(error))

    def close(self) -> None:
        """Releases the stage and the copies of its assets."""
        self.stage.teardown()
        self._cache.clear()

    def _try(self, shard: str, isolation: Isolation) -> Outcome:
        """One attempt; raises TransientError where the disk is full, and nothing else."""
        try:
            inputs = {c: receipt for c in self.stage.reads if (receipt := self._run.receipt(c, shard))}
            if len(inputs) < len(self.stage.shard_reads(inputs)):
                return Outcome(self._spec.node, self._spec.column, shard, "waiting")
            return self._bring_up_to_date(shard, inputs, isolation)
        except StorageError as error:
            if is_full(error):
                raise TransientError(str(error)) from error
            return self._failed(shard, str(error))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except (BrokenStageError, ImportError):  # a package that is missing on the node is no fault of a sample
            self._cannot_begin = True
            return self._failed(shard, traceback.format_exc())
        except BaseException:  # noqa: BLE001 - a bug of a stage, sys.exit() too, fails its shard; the traceback is kept
            return self._failed(shard, traceback.format_exc())

    def _failed(self, shard: str, error: str) -> Outcome:
        return failed(self._spec.node, self._spec.column, self._run, shard, error, fatal=self._cannot_begin)

    def _bring_up_to_date(self, shard: str, inputs: dict[str, Receipt], isolation: Isolation) -> Outcome:
        column = self._spec.column
        hashes = {name: receipt.output.sha256 for name, receipt in inputs.items()}
        basis = basis_of(self.stage, {name: asset.sha256 for name, asset in self._assets.items()}, hashes)
        done, mark = self._current(shard, basis), read_retry_mark(self._run, column, shard)
        if done and mark is None:
            clear_failure(self._run, column, shard)  # of an attempt with other settings, since taken back
            return self._outcome(done, "cached")
        self._set_up()
        before_s = self._predict_seconds()
        receipt = run_shard(
            self.stage,
            self._run,
            shard,
            basis=basis,
            inputs=inputs,
            again=(done, mark) if done and mark else None,
            isolation=isolation,
            in_flight=self._in_flight,
            threads=max(_FEWEST_THREADS, int(self._spec.pool.num_cpus)),
        )
        clear_retry_mark(self._run, column, shard)
        return replace(self._outcome(receipt, "done"), predict_seconds=self._predict_seconds() - before_s)

    def _predict_seconds(self) -> float:
        return self.stage.predict_seconds if isinstance(self.stage, PipelinedStage) else 0.0

    def _current(self, shard: str, basis: Basis) -> Receipt | None:
        """The receipt of the shard, if it is what is wanted and agrees with what is stored."""
        done = self._run.receipt(self._spec.column, shard)
        if done is None or done.fingerprint != basis.fingerprint:
            return None
        return done if self._run.validates(done) or revalidate(self._run, done) else None

    def _set_up(self) -> None:
        if self._ready:
            return
        assets = {name: self._cache.local(asset) for name, asset in self._assets.items()}
        try:
            self.stage.setup(StageContext(self._home.storage, assets))
        except BaseException as error:
            self._cannot_begin = not isinstance(error, StorageError)  # storage may come back
            raise
        self._ready = True

    def _outcome(self, receipt: Receipt, status: Literal["done", "cached"]) -> Outcome:
        counts = (receipt.samples_in, receipt.samples_out, receipt.drops, receipt.seconds, receipt.output.bytes)
        return Outcome(self._spec.node, receipt.column, receipt.shard, status, *counts)


def run_shard(
    stage: Stage,
    run: RunDir,
    shard: str,
    *,
    basis: Basis,
    inputs: Mapping[str, Receipt],
    again: tuple[Receipt, RetryMark] | None = None,
    isolation: Isolation = NO_ISOLATION,
    in_flight: Callable[[Sequence[Sequence[str]]], None] = lambda _: None,
    threads: int = _FEWEST_THREADS,
) -> Receipt:
    """Puts the shard's samples through a stage that is set up, and commits its rows and drops; the receipt comes last.

    `again`: the shard is done, and only the batches with marked drops are done again. `threads`: of a pipelined stage.
    """
    started_s = time.monotonic()
    with ExitStack() as stack:
        scratch = stack.enter_context(run.storage.scratch())
        work = ShardWork(stage, stage.writes.writer(scratch), isolation, in_flight, threads)
        stack.callback(work.close)
        samples = stage.source(shard) if isinstance(stage, SourceStage) else run.samples(list(inputs.values()))
        batches = _batched(samples, stage.batch_size)
        if isinstance(stage, PipelinedStage):
            batches = stack.enter_context(closing(read_ahead(batches, idle=work.flush)))
        if again and not isinstance(stage.writes, FolderColumn):  # the rows of a folder cannot be read back
            redo(work, batches, run, *again)
        else:
            for batch in batches:
                work.take(batch)
        work.finish()
        if (lost := work.samples_in - work.samples_out - len(work.drops)) > 0:
            raise BrokenStageError(
                f"{lost} of {work.samples_in} samples became neither a row nor a drop: a stage yields one for each"
            )
        return commit(
            run,
            column=stage.writes.name,
            shard=shard,
            basis=basis,
            local=work.writer.finish(),
            path=stage.writes.path(shard),
            samples_in=work.samples_in,
            samples_out=work.samples_out,
            drops=work.drops,
            seconds=time.monotonic() - started_s,
        )


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Batches of `size`: what is in each follows from the samples alone."""
    iterator = iter(samples)
    while batch := list(islice(iterator, size)):
        yield batch
