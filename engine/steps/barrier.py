"""What a barrier is given: the whole columns it reads, its assets, and the ways to run stages and to commit."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..records.column import Column
from ..records.sample import Drop
from ..rundir.commit import commit, delete_output
from ..rundir.receipts import Basis, Receipt
from ..rundir.rundir import RunDir
from .outcome import Outcome
from .step import Stage, Step

Launcher = Callable[[Any, Path, Callable[[str], None]], Any]
"""Runs a task as several ranks on the cluster: the task, the folder for what it makes, and a line of progress."""


class BarrierError(RuntimeError):
    """A barrier that cannot finish; the message is one clear line."""


Inputs = Mapping[str, Mapping[str, Receipt]]
"""The receipts of the columns that a barrier reads, by column and shard."""


def input_of(inputs: Inputs, shard: str, *columns: str) -> Receipt:
    """The receipt of a shard in the first of some columns that has it; BarrierError where none of them does."""
    if found := next((inputs[column][shard] for column in columns if shard in inputs[column]), None):
        return found
    raise BarrierError(f"{' and '.join(columns)} lack the shard {shard}, which another column that is read here has")


@dataclass(frozen=True)
class BarrierContext:
    """The run as one barrier sees it."""

    run: RunDir
    basis: Basis
    writes: Column
    inputs: Inputs
    assets: dict[str, str]  # name -> local folder or hub id
    map_stage: Callable[[Stage, Sequence[str]], list[Outcome]]
    launch_ranks: Launcher
    log: Callable[[str], None]  # one line of progress for people
    started_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty local folder, gone afterwards."""
        with self.run.storage.scratch() as folder:
            yield folder

    def commit(self, shard: str, local: Path, samples_in: int, samples_out: int, drops: Sequence[Drop] = ()) -> Receipt:
        """Publishes a finished local file or folder as one output of the barrier, receipt last."""
        suffix = "".join(local.suffixes) if local.is_file() else ""
        return commit(
            self.run,
            column=self.writes.name,
            shard=shard,
            basis=self.basis,
            local=local,
            path=f"{self.writes.name}/{shard}{suffix}",
            samples_in=samples_in,
            samples_out=samples_out,
            drops=drops,
            seconds=time.monotonic() - self.started_s,
        )

    def keep_only(self, shards: Iterable[str]) -> None:
        """Deletes every output of the column that is not among `shards`: what an earlier recipe left."""
        kept = set(shards)
        receipts = self.run.receipts(self.writes.name)
        for shard in receipts:
            if shard not in kept:
                delete_output(self.run, receipts[shard])

    def is_current(self, shard: str) -> bool:
        """Whether an output is there already and was made from the very same things."""
        receipt = self.run.receipt(self.writes.name, shard)
        return receipt is not None and receipt.fingerprint == self.basis.fingerprint and self.run.size_matches(receipt)


class Barrier(Step):
    """Reads whole columns and commits outputs of its own: a plan, a selection, a trained model."""

    only_lists: ClassVar[bool] = False  # it opens nothing and takes seconds: a probe may run it aside

    @property
    def follows(self) -> tuple[str, ...]:
        """Columns of `reads` whose shards are its own; none if it has others."""
        return ()

    @property
    def joins(self) -> Sequence[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Columns of `reads` that belong together: each shard of the first ones has to be in one of the second ones."""
        return ()

    @abstractmethod
    def shards(self, context: BarrierContext) -> Sequence[str]:
        """The ids that `run` commits. It is done when each has a receipt with the wanted fingerprint."""

    @abstractmethod
    def run(self, context: BarrierContext) -> None:
        """Does the work and commits every id of `shards`."""
