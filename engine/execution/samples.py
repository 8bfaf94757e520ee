"""Puts the samples of one shard through a stage, batch by batch, and keeps one bad sample from costing the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..records.column import Writer
from ..records.sample import Drop, Row, Sample
from ..steps.step import BrokenStageError, Stage
from ..storage.faults import StorageError, is_disk_fault

RAISED = "stage_error"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Isolation:
    """What deaths of workers have taught: samples to take one by one, and samples not to touch any more."""

    alone: frozenset[str] = frozenset()
    left_out: Mapping[str, Drop] = field(default_factory=dict)


NO_ISOLATION = Isolation()


@dataclass
class ShardWork:
    """One attempt at the samples of a shard. Rows go to the writer as they come; nothing but drops is held.

    `in_flight` is told the keys that the stage is about to work on, so that a death can be traced to them.
    """

    stage: Stage
    writer: Writer
    isolation: Isolation = NO_ISOLATION
    in_flight: Callable[[Sequence[str]], None] = lambda _: None
    drops: list[Drop] = field(default_factory=list)
    samples_in: int = 0
    samples_out: int = 0
    _good: int = 0  # samples that the stage got through
    _raised: int = 0
    _bug: BaseException | None = None

    def take(self, batch: Sequence[Sample]) -> None:
        """Does a batch. A sample that makes the stage raise is dropped after its batch was split."""
        self.samples_in += len(batch)
        left_out, alone = self.isolation.left_out, self.isolation.alone
        self.drops += [left_out[sample.key] for sample in batch if sample.key in left_out]
        rest = [sample for sample in batch if sample.key not in left_out]
        if any(sample.key in alone for sample in rest):
            self._one_by_one(rest)
        elif rest:
            self._attempt(rest)

    def keep(self, batch: Sequence[Sample], made: Iterable[Row | Drop]) -> None:
        """Takes over what an earlier attempt made of a batch."""
        self.samples_in += len(batch)
        self._good += len(batch)
        for item in made:
            self._put(item)

    def finish(self) -> None:
        """Raises the first error of a stage that raised over more than half of its samples: a bug, not bad data."""
        if self._bug and self._raised > self._good:
            raise self._bug

    def _attempt(self, part: list[Sample]) -> None:
        undo, drops, samples_out = self.writer.mark(), len(self.drops), self.samples_out
        self.in_flight([sample.key for sample in part])
        error = self._try(part)
        self.in_flight(())  # what comes now, reading the next ones say, is not their fault
        if error is None:
            self._good += len(part)
            return
        undo()
        del self.drops[drops:]
        self.samples_out = samples_out
        if len(part) > 1:
            _LOG.warning("%s: a batch of %d raised %r and is split", self.stage.name, len(part), error)
            self._one_by_one(part)
        else:
            _LOG.warning("%s: sample %s raised", self.stage.name, part[0].key, exc_info=error)
            self._bug, self._raised = self._bug or error, self._raised + 1
            self.drops.append(Drop(part[0].key, RAISED, _describe(error), retryable=True))

    def _try(self, part: list[Sample]) -> BaseException | None:
        """Puts samples through the stage; returns what it raises, whatever that is: sys.exit() is a bug as well."""
        try:
            for item in self.stage.process(part):
                self._put(item)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except (StorageError, BrokenStageError):
            raise  # not the sample's fault: the shard fails, and is done again when the storage is back
        except BaseException as error:
            if isinstance(error, OSError) and is_disk_fault(error):
                raise
            return error
        return None

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
