"""Puts the samples of one shard through a stage, batch by batch, and keeps one bad sample from costing the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..records.column import Writer
from ..records.sample import Drop, Row, Sample
from ..steps.step import BrokenStageError, PipelinedStage, Stage
from ..storage.faults import StorageError, is_disk_fault
from .pipeline import Finished, Pipeline

RAISED = "stage_error"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Isolation:
    """What deaths of workers have taught: batches and samples to take one by one, and samples not to touch any more."""

    apart: frozenset[str] = frozenset()  # their batches are done with no other one in flight
    alone: frozenset[str] = frozenset()
    left_out: Mapping[str, Drop] = field(default_factory=dict)


NO_ISOLATION = Isolation()


class ShardWork:
    """One attempt at the samples of a shard. Rows go to the writer as they come; few batches, and all drops, are held.

    `in_flight` is told the keys that the stage is working on, batch by batch, so that a death can be traced to them.
    `threads` are those of a pipelined stage, besides ours.
    """

    def __init__(
        self,
        stage: Stage,
        writer: Writer,
        isolation: Isolation = NO_ISOLATION,
        in_flight: Callable[[Sequence[Sequence[str]]], None] = lambda _: None,
        threads: int = 2,
    ) -> None:
        self.writer = writer
        self.drops: list[Drop] = []
        self.samples_in = self.samples_out = 0
        self._stage, self._isolation, self._in_flight = stage, isolation, in_flight
        self._pipeline = Pipeline(stage, threads, self._report) if isinstance(stage, PipelinedStage) else None
        self._writing: tuple[Finished, Future[None]] | None = None
        self._good = self._raised = 0  # samples that the stage got through, and that it raised over
        self._bug: BaseException | None = None

    def take(self, batch: Sequence[Sample]) -> None:
        """Does a batch, or begins with it. A sample that makes the stage raise is dropped after its batch was split.

        Of a stage of whole batches, what it raises over more than one sample is raised.
        """
        self.samples_in += len(batch)
        left_out = self._isolation.left_out
        self.drops += [left_out[sample.key] for sample in batch if sample.key in left_out]
        rest = [sample for sample in batch if sample.key not in left_out]
        keys = {sample.key for sample in rest}
        if self._pipeline and not keys & (self._isolation.apart | self._isolation.alone):
            self._settle(self._pipeline.take(rest))
            return
        self.flush()
        if keys & self._isolation.alone:
            self._one_by_one(rest)
        elif rest:
            self._attempt(rest)

    def keep(self, batch: Sequence[Sample], made: Iterable[Row | Drop]) -> None:
        """Takes over what an earlier attempt made of a batch."""
        self.flush()
        self.samples_in += len(batch)
        self._good += len(batch)
        for item in made:
            self._put(item)

    def flush(self) -> None:
        """Finishes the batches that were begun with, and writes them."""
        if self._pipeline:
            self._settle(self._pipeline.flush())
            self._finish_writing()

    def finish(self) -> None:
        """Flushes; raises the first error of a stage that raised over more than half of its samples: a bug."""
        self.flush()
        if self._bug and self._raised > self._good:
            raise self._bug

    def close(self) -> None:
        """Lets go of threads and writer; safe at any time."""
        if self._pipeline:
            self._pipeline.close()
        self.writer.close()

    def _settle(self, finished: Iterable[Finished]) -> None:
        """Has batches written in a thread as they are finished, one at a time."""
        for batch in finished:
            self._finish_writing()
            if batch.error:
                self._blame(batch.samples, batch.error)
            else:
                assert self._pipeline
                self._writing = batch, self._pipeline.submit(self._write, batch.made)

    def _write(self, made: Iterable[Row | Drop]) -> None:
        """Adds the rows, all or none."""
        undo = self.writer.mark()
        try:
            for item in made:
                if isinstance(item, Row):
                    self.writer.add(item)
        except BaseException:
            undo()
            raise

    def _finish_writing(self) -> None:
        if self._writing is None:
            return
        (batch, writing), self._writing = self._writing, None
        if error := writing.exception():
            self._blame(batch.samples, error)
            return
        drops = [item for item in batch.made if isinstance(item, Drop)]
        self.drops += drops
        self.samples_out += len(batch.made) - len(drops)
        self._good += len(batch.samples)

    def _report(self, part: Sequence[Sample] = ()) -> None:
        """Tells what is in flight: a part of a batch, and what is in the pipeline."""
        alone = [[sample.key for sample in part]] if part else []
        self._in_flight(alone + (self._pipeline.in_flight() if self._pipeline else []))

    def _attempt(self, part: list[Sample]) -> None:
        undo, drops, samples_out = self.writer.mark(), len(self.drops), self.samples_out
        self._report(part)
        error = self._try(part)
        self._report()  # what comes now, reading the next ones say, is not their fault
        if error is None:
            self._good += len(part)
            return
        undo()
        del self.drops[drops:]
        self.samples_out = samples_out
        self._blame(part, error)

    def _try(self, part: list[Sample]) -> BaseException | None:
        """Puts samples through the stage; returns what it raises, whatever that is: sys.exit() is a bug as well."""
        try:
            for item in self._stage.process(part):
                self._put(item)
        except BaseException as error:  # noqa: BLE001 - `_blame` judges
            return error
        return None

    def _blame(self, part: list[Sample], error: BaseException) -> None:
        """Finds the samples of a part that the stage raised over, and drops them; raises what is not their fault."""
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise error
        if isinstance(error, (StorageError, BrokenStageError, ImportError)):
            raise error  # the shard fails, and is done again when the storage, the model or the package is there
        if isinstance(error, OSError) and is_disk_fault(error):
            raise error
        if len(part) > 1 and self._stage.whole_batches:
            raise error
        if len(part) > 1:
            _LOG.warning("%s: a batch of %d raised %r and is split", self._stage.name, len(part), error)
            self._one_by_one(part)
        else:
            _LOG.warning("%s: sample %s raised", self._stage.name, part[0].key, exc_info=error)
            self._bug, self._raised = self._bug or error, self._raised + 1
            self.drops.append(Drop(part[0].key, RAISED, _describe(error), retryable=True))

    def _one_by_one(self, part: list[Sample]) -> None:
        for sample in part:
            self._attempt([sample])

    def _put(self, item: Row | Drop) -> None:
        if isinstance(item, Drop):
            self.drops.append(item)
        else:
            self.writer.add(item)
            self.samples_out += 1


def _describe(error: BaseException) -> str:
    line = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    return line.encode(errors="backslashreplace").decode()  # a table takes no lone surrogates
