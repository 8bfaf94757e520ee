"""The writing side of a run: outputs first, the receipt last; what was replaced or lost is never vouched for.

Two attempts of one shard may overlap: a worker that was given up for lost may still be at work. On a disk, a lock lets
one commit after the other. An object store has none: there, whoever writes last looks whether the receipt and the
objects it names are still its own, and if they are not, writes again or takes the receipt back. What an attempt
replaces and dies before saying so is found by its time: an object newer than its receipt has to be hashed anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from engine.drops import count_codes, write_drops
from engine.faults import told_as
from engine.listing import error_path, receipt_path, retry_path
from engine.receipts import Basis, Receipt
from engine.rundir import RunDir
from engine.stage import Drop
from engine.storage import Entry, hash_local

_LOCKS = 64  # files; shards share them
_TRIES = 3


class OvertakenError(RuntimeError):
    """Other attempts at the same shard kept replacing what this one wrote; no receipt was left behind."""


def commit(
    run: RunDir,
    *,
    column: str,
    shard: str,
    basis: Basis,
    local: Path,
    path: str,
    samples_in: int,
    samples_out: int,
    drops: Sequence[Drop] = (),
    seconds: float = 0.0,
) -> Receipt:
    """Publishes a finished local output, then its drops, then the receipt, each whole or not at all.

    Raises:
        OvertakenError: other attempts at the shard kept getting in between; the shard counts as not done.
    """
    sha256 = hash_local(local)
    with _one_after_the_other(run, column, shard):
        before = run.receipt(column, shard)
        attempt = before.attempt + 1 if before else 1
        for _ in range(_TRIES):
            if before is None or before.output.sha256 != sha256 or before.drops_output or drops:
                run.storage.delete(receipt_path(column, shard))  # it would vouch for what is about to be replaced
            receipt = Receipt(
                column=column,
                shard=shard,
                basis=basis,
                output=run.storage.publish(local, path),
                samples_in=samples_in,
                samples_out=samples_out,
                drops=count_codes(drops),
                drops_output=write_drops(run, column, shard, drops, attempt),
                seconds=round(seconds, 3),
                attempt=attempt,
            )
            written = _entries(run, receipt)
            contested = (
                not run.storage.is_local and run.receipt(column, shard) is not None
            )  # ours is deleted, or as before
            run.storage.write_bytes(receipt_path(column, shard), receipt.to_bytes())
            if agreed := _agreed(run, receipt, None if contested else written):
                clear_failure(run, column, shard)
                return agreed
            if run.storage.is_local:  # moved, not copied; and where locks hold, nobody gets in between
                break
            before = None
        run.storage.delete(receipt_path(column, shard))
    raise OvertakenError(f"{column}/{shard}: another attempt at it replaced the output; the same command does it again")


def revouch(run: RunDir, receipt: Receipt) -> bool:
    """Hashes the outputs of a receipt that is older than they are. If they are what was written, it is written anew."""
    with _one_after_the_other(run, receipt.column, receipt.shard):
        if run.receipt(receipt.column, receipt.shard) != receipt or not _fits(run, receipt):
            return False
        run.storage.write_bytes(receipt_path(receipt.column, receipt.shard), receipt.to_bytes())
        return True


def fail(run: RunDir, column: str, shard: str, traceback: str) -> None:
    """Leaves the traceback of a failed shard where the receipt would be."""
    error = {"column": column, "shard": shard, "traceback": traceback}
    run.storage.write_bytes(error_path(column, shard), json.dumps(error, indent=1).encode())


def clear_failure(run: RunDir, column: str, shard: str) -> None:
    """Forgets the failure of what has since been done."""
    run.storage.delete(error_path(column, shard))


def withdraw(run: RunDir, receipt: Receipt) -> None:
    """Removes a shard that is part of its column no more; the receipt first, so that none vouches for a part."""
    for path in (receipt_path, error_path, retry_path):
        run.storage.delete(path(receipt.column, receipt.shard))
    for output in filter(None, (receipt.output, receipt.drops_output)):
        run.storage.delete_all(output.path)


def _agreed(run: RunDir, mine: Receipt, written: list[dict[str, Entry]] | None) -> Receipt | None:
    """The receipt that stands, if it agrees with the objects it names; they are hashed only where something moved.

    `written` are the objects as they were right after they had been written; None if another attempt was seen.
    """
    stands = run.receipt(mine.column, mine.shard)
    if stands == mine and _entries(run, mine) == written:
        return mine
    return stands if stands and _fits(run, stands) else None


def _fits(run: RunDir, receipt: Receipt) -> bool:
    outputs = filter(None, (receipt.output, receipt.drops_output))
    return all(run.storage.hash_object(output.path) == output.sha256 for output in outputs)


def _entries(run: RunDir, receipt: Receipt) -> list[dict[str, Entry]]:
    outputs = filter(None, (receipt.output, receipt.drops_output))
    return [_entries_at(run, output.path) for output in outputs]


def _entries_at(run: RunDir, path: str) -> dict[str, Entry]:
    """A file, or all files of a folder."""
    single = run.storage.info(path)
    return {"": single} if single else run.storage.entries(path)


@contextlib.contextmanager
def _one_after_the_other(run: RunDir, column: str, shard: str) -> Iterator[None]:
    """Holds one of the run's lock files, where the storage is a disk. The lock of a killed process is gone with it."""
    if not run.storage.is_local:
        yield
        return
    number = zlib.crc32(f"{column}/{shard}".encode()) % _LOCKS
    place = Path(run.storage.locate(f".tmp/locks/{number:02d}"))
    with ExitStack() as stack:
        with told_as(run.storage.address(""), Path(run.storage.locate(""))):
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(place.open("a"))
        with contextlib.suppress(OSError):  # a network file system without locks: the check after writing remains
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
