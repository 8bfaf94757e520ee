"""Tables of drops: `drops/<column>/<shard>.parquet`, written beside a shard's output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ..records.column import ParquetColumn
from ..records.keys import ColumnError
from ..records.sample import Drop, Row
from ..storage.storage import Output
from .receipts import Receipt
from .rundir import RunDir

_SCHEMA = pa.schema(
    [("code", pa.string()), ("detail", pa.string()), ("retryable", pa.bool_()), ("attempt", pa.int32())]
)


def write_drops(run: RunDir, column: str, shard: str, drops: Sequence[Drop], attempt: int) -> Output | None:
    """Publishes the drops of a shard, sorted by key; where there are none, removes those of before."""
    path = f"drops/{column}/{shard}.parquet"
    if not drops:
        run.storage.delete(path)
        return None
    with run.storage.scratch() as scratch:
        writer = ParquetColumn("drops", _SCHEMA).writer(scratch)
        for drop in sorted(drops, key=lambda drop: drop.key):
            fields = {"code": drop.code, "detail": drop.detail, "retryable": drop.retryable, "attempt": attempt}
            writer.add(Row(drop.key, fields))
        return run.storage.publish(writer.finish(), path)


def read_drops(run: RunDir, receipt: Receipt) -> list[Drop]:
    """The drops of a shard, sorted by key; raises ColumnError if their table is broken."""
    if receipt.drops_output is None:
        return []
    path = receipt.drops_output.path
    try:
        table = pq.read_table(pa.BufferReader(run.storage.read_bytes(path)))
    except pa.ArrowException as error:
        raise ColumnError(f"{run.storage.address(path)}: broken parquet") from error
    return [Drop(row["key"], row["code"], row["detail"], row["retryable"]) for row in table.to_pylist()]


def count_codes(drops: Sequence[Drop]) -> dict[str, int]:
    """Drops by code, sorted by code."""
    return dict(sorted(Counter(drop.code for drop in drops).items()))
