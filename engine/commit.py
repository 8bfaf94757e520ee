"""The writing side of a run: outputs first, the receipt last; what was replaced or lost is never vouched for.

Two attempts of one shard may overlap: a worker that was given up for lost may still be at work. On a disk, a lock lets
one commit after the other; what an attempt replaces and dies before saying so is found by its time, for the object is
newer than its receipt. An object store has neither locks nor a clock to go by (it ticks in seconds, and an upload may
bear the time of its beginning). There an attempt lays down a claim before it replaces anything, reads back what is
stored when its receipt is written, and takes the claim away last. So of two living attempts the later one sees what the
other has done, and a dead one leaves its claim: then the shard is trusted only for what it hashes to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from engine.drops import count_codes, write_drops
from engine.faults import told_as
from engine.listing import claim_path, error_path, receipt_path, retry_path
from engine.receipts import Basis, Receipt
from engine.rundir import RunDir
from engine.stage import Drop
from engine.storage import hash_local

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
    with _alone(run, column, shard) as locked:
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
            run.storage.write_bytes(receipt_path(column, shard), receipt.to_bytes())
            stands = receipt if locked else run.receipt(column, shard)
            if stands and (locked or run.fits(stands)):
                clear_failure(run, column, shard)
                return stands
            if run.storage.is_local:  # moved, not copied
                break
            before = None
        run.storage.delete(receipt_path(column, shard))
    raise OvertakenError(f"{column}/{shard}: another attempt at it replaced the output; the same command does it again")


def revouch(run: RunDir, receipt: Receipt) -> bool:
    """Hashes the outputs of a receipt that is older than they are. If they are what was written, it is written anew."""
    with _alone(run, receipt.column, receipt.shard) as locked:
        if run.receipt(receipt.column, receipt.shard) != receipt or not run.fits(receipt):
            return False
        run.storage.write_bytes(receipt_path(receipt.column, receipt.shard), receipt.to_bytes())
        return locked or run.fits(receipt)


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


@contextlib.contextmanager
def _alone(run: RunDir, column: str, shard: str) -> Iterator[bool]:
    """Keeps other attempts away by a lock (then True), or tells them and the planner of this one by a claim."""
    with ExitStack() as stack:
        if run.storage.is_local and _lock(run, column, shard, stack):
            yield True
            return
        claim = claim_path(column, shard, uuid4().hex)
        run.storage.write_bytes(claim, b"")
        yield False
        run.storage.delete(claim)  # not after an exception: what was begun may yet become visible


def _lock(run: RunDir, column: str, shard: str, stack: ExitStack) -> bool:
    """Takes one of the run's lock files; the lock of a killed process is gone with it. False where there are none."""
    number = zlib.crc32(f"{column}/{shard}".encode()) % _LOCKS
    place = Path(run.storage.locate(f".tmp/locks/{number:02d}"))
    with told_as(run.storage.address(""), Path(run.storage.locate(""))):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(place.open("a"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a network file system without locks
        return False
    return True
