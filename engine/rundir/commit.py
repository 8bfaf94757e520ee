"""Committing one output: the output first, the receipt last. A receipt never names bytes that are not there.

Two attempts at one shard may overlap: a worker that was given up for lost may still be running. So a commit follows a
protocol of five steps:

1. Keep others out, or tell them. On a disk, take the shard's lock file; the lock of a killed process goes with it. An
   object store has no locks: write a claim, `receipts/<column>/<shard>.claims/<attempt>`, so that others can see it.
2. Delete the old receipt if its output is about to change. Else a kill after step 3 would leave a receipt that names
   bytes that were replaced.
3. Publish the output, then the table of drops, each whole or not at all. (What a tar holds is written down before: that
   table is named by the content of the tar, so that no other attempt can take it for its own.)
4. Write the receipt. From here on the shard is done.
5. On a store, list the claims. Another claim, or a trace of one, means that the two attempts overlapped: read back what
   is stored, and keep the receipt only if the hashes agree; else go back to step 2, three times at most. Then delete
   the own claim. If the other attempt is still running, leave a trace, so that it sees the overlap in its own step 5.

What a killed attempt leaves is found by the planner. On a disk, an output newer than its receipt is hashed before it is
believed (`revalidate`). On a store, times are too coarse for that (they tick in seconds, and an upload may bear the
time at which it began), but the claim is still there: while a shard has claims or traces, every plan hashes its output.
Claims older than a day are deleted (`clean_claims`).
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
from .members import forget_members, note_members
from .receipts import Basis, Receipt
from .rundir import RunDir

_LOCKS = 64  # files; shards share them
_TRIES = 3
_TRACE = ".trace"
_CLAIM_LIVES_S = 24 * 3600.0


class OverlapError(RuntimeError):
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
        OverlapError: other attempts at the shard kept getting in between; the shard counts as not done.
    """
    sha256 = hash_local(local)
    note_members(run.storage, column, shard, sha256, local)
    with _exclusive(run, column, shard) as claim:
        before = run.receipt(column, shard)
        attempt = before.attempt + 1 if before else 1
        for _ in range(_TRIES):
            if before is None or before.output.sha256 != sha256 or before.drops_output or drops:
                run.storage.delete(receipt_path(column, shard))  # step 2
            receipt = Receipt(
                column=column,
                shard=shard,
                basis=basis,
                output=run.storage.publish(local, path, sha256),
                samples_in=samples_in,
                samples_out=samples_out,
                drops=count_codes(drops),
                drops_output=write_drops(run, column, shard, drops, attempt),
                seconds=round(seconds, 3),
                attempt=attempt,
            )
            run.storage.write_bytes(receipt_path(column, shard), receipt.to_bytes())
            if stands := _stored_receipt(run, receipt, claim):
                clear_failure(run, column, shard)
                if before and before.output.sha256 != stands.output.sha256:
                    forget_members(run.storage, before)
                return stands
            if run.storage.is_local:  # moved, not copied
                break
            before = None
        run.storage.delete(receipt_path(column, shard))
    raise OverlapError(f"{column}/{shard}: another attempt at it replaced the output; the same command does it again")


def _stored_receipt(run: RunDir, receipt: Receipt, claim: _Claim | None) -> Receipt | None:
    """Step 5: the receipt that is stored now, if the outputs are what it says."""
    if claim is None or not claim.overlaps():
        return receipt
    left = run.receipt(receipt.column, receipt.shard)
    return left if left and run.hashes_match(left) else None


def revalidate(run: RunDir, receipt: Receipt) -> bool:
    """Hashes the outputs of a receipt that is older than they are, and writes it again if they are what it says."""
    with _exclusive(run, receipt.column, receipt.shard) as claim:
        if run.receipt(receipt.column, receipt.shard) != receipt or not run.hashes_match(receipt):
            return False
        run.storage.write_bytes(receipt_path(receipt.column, receipt.shard), receipt.to_bytes())
        return _stored_receipt(run, receipt, claim) == receipt


def fail(run: RunDir, column: str, shard: str, traceback: str) -> None:
    """Writes the traceback of a failed shard beside where its receipt would be."""
    error = {"column": column, "shard": shard, "traceback": traceback}
    run.storage.write_bytes(error_path(column, shard), json.dumps(error, indent=1).encode())


def clear_failure(run: RunDir, column: str, shard: str) -> None:
    """Deletes the record of a failure, once the shard is done."""
    run.storage.delete(error_path(column, shard))


def delete_output(run: RunDir, receipt: Receipt) -> None:
    """Deletes a shard that the recipe does not have any more: the receipt first, then what it names."""
    for path in (receipt_path, error_path, retry_path):
        run.storage.delete(path(receipt.column, receipt.shard))
    for output in filter(None, (receipt.output, receipt.drops_output)):
        run.storage.delete_all(output.path)
    forget_members(run.storage, receipt)


def clean_claims(run: RunDir, column: str) -> None:
    """Deletes the claims and traces of a column that are a day old: no attempt lives that long.

    If one does, its output is newer than the receipt by more than any clock is wrong, and is hashed for that.
    """
    for path, entry in run.storage.entries(f"receipts/{column}").items():
        if is_claim(path) and time.time() - entry.mtime_ns / 1e9 > _CLAIM_LIVES_S:
            run.storage.delete(f"receipts/{column}/{path}")


class _Claim:
    """A small object that tells other attempts, and the planner, that this attempt may replace outputs of a shard."""

    def __init__(self, storage: Storage, column: str, shard: str) -> None:
        self._storage, self._folder, self._name = storage, claim_path(column, shard), uuid4().hex
        self._others: list[str] = []
        storage.write_bytes(self._folder + self._name, b"")

    def overlaps(self) -> bool:
        """Whether another attempt may have written between this one's writes; called after the last of them."""
        self._others = [name for name in self._storage.list(self._folder) if name != self._name]
        return bool(self._others)

    def release(self) -> None:
        """Deletes the claim. Leaves a trace for other claims; without any, all traces have been read and go."""
        traces = [name for name in self._others if name.endswith(_TRACE)]
        if len(traces) < len(self._others):
            self._storage.write_bytes(self._folder + self._name + _TRACE, b"")
            traces = []
        for name in (*traces, self._name):
            self._storage.delete(self._folder + name)


@contextlib.contextmanager
def _exclusive(run: RunDir, column: str, shard: str) -> Iterator[_Claim | None]:
    """Step 1: locks the shard (yields None), or writes a claim where there are no locks."""
    with ExitStack() as stack:
        if run.storage.is_local and _lock(run, column, shard, stack):
            yield None
            return
        claim = _Claim(run.storage, column, shard)
        yield claim
        claim.release()  # not after an exception: an upload that was begun may still become visible


def _lock(run: RunDir, column: str, shard: str, stack: ExitStack) -> bool:
    """Locks one of the run's lock files until the stack closes; False on a file system without locks."""
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
