"""The writing side of a run: outputs first, the receipt last; what was replaced or lost is never validated for.

Two attempts of one shard may overlap: a worker that was given up for lost may still be at work. On a disk, a lock lets
one commit after the other; what an attempt replaces and dies before saying so is found by its time, for the object is
newer than its receipt. An object store has neither locks nor a clock to go by (it ticks in seconds, and an upload may
bear the time of its beginning). There an attempt lays down a claim before it replaces anything, looks for others when
its receipt is written, and takes the claim away last. One that has seen another's claim leaves a trace, so that of two
attempts that overlap each knows it, and reads back what is stored. A dead one leaves its claim. While there are claims
or traces, the shard is trusted only for what it hashes to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from ..records.sample import Drop
from ..storage.faults import reported_as
from ..storage.storage import Storage, hash_local
from .drops import count_codes, write_drops
from .listing import claim_path, error_path, is_claim, receipt_path, retry_path
from .receipts import Basis, Receipt
from .rundir import RunDir

_LOCKS = 64  # files; shards share them
_TRIES = 3
_TRACE = ".trace"
_DEAD_AFTER_S = 24 * 3600.0


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
    with _turn(run, column, shard) as claim:
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
            if stands := _what_stands(run, receipt, claim):
                clear_failure(run, column, shard)
                return stands
            if run.storage.is_local:  # moved, not copied
                break
            before = None
        run.storage.delete(receipt_path(column, shard))
    raise OvertakenError(f"{column}/{shard}: another attempt at it replaced the output; the same command does it again")


def _what_stands(run: RunDir, receipt: Receipt, claim: _Claim | None) -> Receipt | None:
    """The receipt that is there when one was written, if it agrees with what is stored."""
    if claim is None or not claim.is_contested():
        return receipt
    left = run.receipt(receipt.column, receipt.shard)
    return left if left and run.fits(left) else None


def revalidate(run: RunDir, receipt: Receipt) -> bool:
    """Hashes the outputs of a receipt that is older than they are. If they are what was written, it is written anew."""
    with _turn(run, receipt.column, receipt.shard) as claim:
        if run.receipt(receipt.column, receipt.shard) != receipt or not run.fits(receipt):
            return False
        run.storage.write_bytes(receipt_path(receipt.column, receipt.shard), receipt.to_bytes())
        return _what_stands(run, receipt, claim) == receipt


def fail(run: RunDir, column: str, shard: str, traceback: str) -> None:
    """Leaves the traceback of a failed shard where the receipt would be."""
    error = {"column": column, "shard": shard, "traceback": traceback}
    run.storage.write_bytes(error_path(column, shard), json.dumps(error, indent=1).encode())


def clear_failure(run: RunDir, column: str, shard: str) -> None:
    """Forgets the failure of what has since been done."""
    run.storage.delete(error_path(column, shard))


def delete_output(run: RunDir, receipt: Receipt) -> None:
    """Removes a shard that is part of its column no more; the receipt first, so that none validates for a part."""
    for path in (receipt_path, error_path, retry_path):
        run.storage.delete(path(receipt.column, receipt.shard))
    for output in filter(None, (receipt.output, receipt.drops_output)):
        run.storage.delete_all(output.path)


def clean_claims(run: RunDir, column: str) -> None:
    """Takes away the claims and traces of a column that are a day old: no attempt lives that long.

    Should one wake up yet, what it replaces is newer than the receipt by more than any clock is wrong.
    """
    for path, entry in run.storage.entries(f"receipts/{column}").items():
        if is_claim(path) and time.time() - entry.mtime_ns / 1e9 > _DEAD_AFTER_S:
            run.storage.delete(f"receipts/{column}/{path}")


class _Claim:
    """Tells other attempts, and the planner, that this one may be about to replace objects of a shard."""

    def __init__(self, storage: Storage, column: str, shard: str) -> None:
        self._storage, self._folder, self._name = storage, claim_path(column, shard), uuid4().hex
        self._others: list[str] = []
        storage.write_bytes(self._folder + self._name, b"")

    def is_contested(self) -> bool:
        """Whether another attempt may have come between this one's writes. To be asked after the last of them."""
        self._others = [name for name in self._storage.list(self._folder) if name != self._name]
        return bool(self._others)

    def lift(self) -> None:
        """Takes the claim away, and leaves a trace for those at work; without any, all traces have been heeded."""
        traces = [name for name in self._others if name.endswith(_TRACE)]
        if len(traces) < len(self._others):
            self._storage.write_bytes(self._folder + self._name + _TRACE, b"")
            traces = []
        for name in (*traces, self._name):
            self._storage.delete(self._folder + name)


@contextlib.contextmanager
def _turn(run: RunDir, column: str, shard: str) -> Iterator[_Claim | None]:
    """Keeps other attempts away by a lock (then None), or lays down a claim."""
    with ExitStack() as stack:
        if run.storage.is_local and _lock(run, column, shard, stack):
            yield None
            return
        claim = _Claim(run.storage, column, shard)
        yield claim
        claim.lift()  # not after an exception: what was begun may yet become visible


def _lock(run: RunDir, column: str, shard: str, stack: ExitStack) -> bool:
    """Takes one of the run's lock files; the lock of a killed process is gone with it. False where there are none."""
    number = zlib.crc32(f"{column}/{shard}".encode()) % _LOCKS
    place = Path(run.storage.locate(f".tmp/locks/{number:02d}"))
    with reported_as(run.storage.address(""), Path(run.storage.locate(""))):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(place.open("a"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a network file system without locks
        return False
    return True
