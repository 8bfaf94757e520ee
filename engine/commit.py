"""The writing side of a run: outputs first, the receipt last; what was replaced or lost is never vouched for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from engine.columns import ParquetColumn
from engine.receipts import Basis, Receipt
from engine.rundir import RunDir, error_path, receipt_path
from engine.stage import Drop, Row
from engine.storage import Output

_DROP_SCHEMA = pa.schema(
    [("code", pa.string()), ("detail", pa.string()), ("retryable", pa.bool_()), ("attempt", pa.int32())]
)


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
    """Publishes a finished local output, then its drops, then the receipt, each whole or not at all."""
    before = run.receipt(column, shard)
    attempt = before.attempt + 1 if before else 1
    if before and before.fingerprint != basis.fingerprint:
        run.storage.delete(receipt_path(column, shard))  # else it would vouch for what is about to be replaced
    receipt = Receipt(
        column=column,
        shard=shard,
        basis=basis,
        output=run.storage.publish(local, path),
        samples_in=samples_in,
        samples_out=samples_out,
        drops=_count(drops),
        drops_output=_write_drops(run, column, shard, drops, attempt),
        seconds=round(seconds, 3),
        attempt=attempt,
    )
    run.storage.write_bytes(receipt_path(column, shard), receipt.to_bytes())
    clear_failure(run, column, shard)
    return receipt


def fail(run: RunDir, column: str, shard: str, traceback: str) -> None:
    """Leaves the traceback of a failed shard where the receipt would be."""
    error = {"column": column, "shard": shard, "traceback": traceback}
    run.storage.write_bytes(error_path(column, shard), json.dumps(error, indent=1).encode())


def clear_failure(run: RunDir, column: str, shard: str) -> None:
    """Forgets the failure of what has since been done."""
    run.storage.delete(error_path(column, shard))


def withdraw(run: RunDir, receipt: Receipt) -> None:
    """Removes a shard that is part of its column no more; the receipt first, so that none vouches for a part."""
    run.storage.delete(receipt_path(receipt.column, receipt.shard))
    for output in filter(None, (receipt.output, receipt.drops_output)):
        run.storage.delete_all(output.path)


def _write_drops(run: RunDir, column: str, shard: str, drops: Sequence[Drop], attempt: int) -> Output | None:
    path = f"drops/{column}/{shard}.parquet"
    if not drops:
        run.storage.delete(path)
        return None
    with run.storage.scratch() as scratch:
        writer = ParquetColumn("drops", _DROP_SCHEMA).writer(scratch)
        for drop in sorted(drops, key=lambda drop: drop.key):
            fields = {"code": drop.code, "detail": drop.detail, "retryable": drop.retryable, "attempt": attempt}
            writer.add(Row(drop.key, fields))
        return run.storage.publish(writer.finish(), path)


def _count(drops: Sequence[Drop]) -> dict[str, int]:
    codes = sorted(drop.code for drop in drops)
    return {code: codes.count(code) for code in dict.fromkeys(codes)}
