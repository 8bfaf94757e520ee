"""Marks of finished shards some of whose drops are to be tried again."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..records.sample import Drop
from .drops import read_drops
from .listing import retry_path
from .receipts import Receipt
from .rundir import RunDir


@dataclass(frozen=True)
class RetryMark:
    """Which drops of a shard are to be tried again: those with one of the codes, and maybe all that are retryable."""

    codes: frozenset[str] = frozenset()
    retryable: bool = False

    @staticmethod
    def of(code: str | None) -> RetryMark:
        """The drops of a code; without one, all that are retryable."""
        return RetryMark(retryable=True) if code is None else RetryMark(frozenset([code]))

    def wants(self, drop: Drop) -> bool:
        """Whether the drop is one of them."""
        return drop.code in self.codes or (self.retryable and drop.retryable)

    def wants_any(self, run: RunDir, receipt: Receipt) -> bool:
        """Whether a shard holds such a drop; its table is opened only if the receipt's counts leave that open."""
        if self.codes & receipt.drops.keys():
            return True
        return self.retryable and any(drop.retryable for drop in read_drops(run, receipt))


def mark_for_retry(run: RunDir, column: str, shard: str, what: RetryMark) -> None:
    """Marks a finished shard: the next run does the batches of these drops again, and of those marked before."""
    before = read_retry_mark(run, column, shard) or RetryMark()
    codes, retryable = sorted(before.codes | what.codes), before.retryable or what.retryable
    mark = json.dumps({"codes": codes, "retryable": retryable})
    run.storage.write_bytes(retry_path(column, shard), mark.encode())


def read_retry_mark(run: RunDir, column: str, shard: str) -> RetryMark | None:
    """The mark of a shard, None without one; a damaged mark counts as one for all retryable drops."""
    try:
        mark = json.loads(run.storage.read_bytes(retry_path(column, shard)))
        return RetryMark(frozenset(mark["codes"]), bool(mark["retryable"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return RetryMark(retryable=True)


def clear_retry_mark(run: RunDir, column: str, shard: str) -> None:
    """Deletes the mark, once the drops were tried again."""
    run.storage.delete(retry_path(column, shard))
