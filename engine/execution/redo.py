"""Reprocesses the batches of a finished shard that hold drops marked by `dap retry`, and copies the rest.

The unit is the batch: it is done again whole, so that the bytes are those of a shard in which nothing went wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from ..records.sample import Drop, Row, Sample
from ..rundir.drops import read_drops
from ..rundir.receipts import Receipt
from ..rundir.retry_marks import RetryMark
from ..rundir.rundir import RunDir
from .samples import ShardWork

_ABOVE_ALL_KEYS = "\x7f"


def redo(work: ShardWork, batches: Iterable[list[Sample]], run: RunDir, done: Receipt, what: RetryMark) -> None:
    """Processes the batches that hold a marked drop, and copies what was made of the others.

    Rows and drops belong to the last sample whose key is not above theirs: a stage that fans out names its rows after
    the sample (`<key>-<n>`), and the keys of a shard rise.
    """
    rows, drops = _SortedCursor(run.rows(done)), _SortedCursor(iter(read_drops(run, done)))
    for batch, end in _with_ends(batches):
        dropped = list(drops.before(end))
        if any(what.wants(drop) for drop in dropped):
            for _ in rows.before(end):
                pass  # made anew
            work.take(batch)
        else:
            work.keep(batch, dropped)
            work.keep([], rows.before(end))


_Item = TypeVar("_Item", Row, Drop)


class _SortedCursor(Generic[_Item]):
    """Items with rising keys, read up to one key after another."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items = items
        self._head = next(items, None)

    def before(self, key: str) -> Iterator[_Item]:
        """Yields the items whose key is less than `key`."""
        while self._head is not None and self._head.key < key:
            yield self._head
            self._head = next(self._items, None)


def _with_ends(batches: Iterable[list[Sample]]) -> Iterator[tuple[list[Sample], str]]:
    """Each batch with the key that the next one begins with."""
    iterator = iter(batches)
    batch = next(iterator, None)
    while batch is not None:
        following = next(iterator, None)
        yield batch, following[0].key if following else _ABOVE_ALL_KEYS
        batch = following
