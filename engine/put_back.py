"""Doing again what was put back of a finished shard, and keeping the rest of it as it is.

The unit is the batch: it is done again whole, so that the bytes are those of a shard in which nothing went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.drops import read_drops
from engine.listing import retry_path
from engine.receipts import Receipt
from engine.rundir import RunDir
from engine.samples import ShardWork
from engine.stage import Drop, Row, Sample

_ABOVE_ALL_KEYS = "\x7f"


@dataclass(frozen=True)
class PutBack:
    """Which drops of a shard are to be tried again: those with one of the codes, and maybe all that are retryable."""

    codes: frozenset[str] = frozenset()
    retryable: bool = False

    @staticmethod
    def of(code: str | None) -> PutBack:
        """The drops of a code; without one, all that are retryable."""
        return PutBack(retryable=True) if code is None else PutBack(frozenset([code]))

    def wants(self, drop: Drop) -> bool:
        """Whether the drop is one of them."""
        return drop.code in self.codes or (self.retryable and drop.retryable)

    def wants_any(self, run: RunDir, receipt: Receipt) -> bool:
        """Whether a shard holds such a drop; its table is opened only if the receipt's counts leave that open."""
        if self.codes & receipt.drops.keys():
            return True
        return self.retryable and any(drop.retryable for drop in read_drops(run, receipt))


def put_back(run: RunDir, column: str, shard: str, what: PutBack) -> None:
    """Marks a finished shard: the next run does what was put back, then or before, and only that."""
    before = mark_of(run, column, shard) or PutBack()
    codes, retryable = sorted(before.codes | what.codes), before.retryable or what.retryable
    mark = json.dumps({"codes": codes, "retryable": retryable})
    run.storage.write_bytes(retry_path(column, shard), mark.encode())


def mark_of(run: RunDir, column: str, shard: str) -> PutBack | None:
    """What was put back of a shard; a damaged mark puts back all that is retryable."""
    try:
        mark = json.loads(run.storage.read_bytes(retry_path(column, shard)))
        return PutBack(frozenset(mark["codes"]), bool(mark["retryable"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return PutBack(retryable=True)


def clear_mark(run: RunDir, column: str, shard: str) -> None:
    """Forgets the mark of what has since been done."""
    run.storage.delete(retry_path(column, shard))


def redo(work: ShardWork, batches: Iterable[list[Sample]], run: RunDir, done: Receipt, what: PutBack) -> None:
    """Takes the batches that hold a drop that was put back, and keeps what was made of the others.

    Rows and drops belong to the last sample whose key is not above theirs: a stage that fans out names its rows after
    the sample (`<key>-<n>`), and the keys of a shard rise.
    """
    rows, drops = _Rising(run.rows(done)), _Rising(iter(read_drops(run, done)))
    for batch, end in _with_ends(batches):
        dropped = list(drops.below(end))
        if any(what.wants(drop) for drop in dropped):
            for _ in rows.below(end):
                pass  # made anew
            work.take(batch)
        else:
            work.keep(batch, dropped)
            work.keep([], rows.below(end))


_Item = TypeVar("_Item", Row, Drop)


class _Rising(Generic[_Item]):
    """Items with rising keys, handed out piece by piece."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items = items
        self._head = next(items, None)

    def below(self, key: str) -> Iterator[_Item]:
        """The items up to a key, which is left out."""
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
