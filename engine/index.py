"""Reading all receipts of a column: one listing, an index, and only those receipts that the index does not know.

The index, `receipts/<column>.index`, is a cache and never the truth: an entry counts only while the listing shows the
very size and time that its receipt had when it was read. It may be deleted at any time, and is ignored when it is
damaged. A store's clock may tick but once a second, so a receipt as young as the newest of its listing could yet be
replaced by one of the same size and time: such a one stays out of the index.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.columns import ColumnError
from engine.listing import Listing, index_path, receipt_path
from engine.receipt_table import SCHEMA, Receipts, receipt_row
from engine.receipts import Receipt, read_receipt
from engine.storage import Entry, Storage

WORTH_INDEXING = 1000  # receipts; opening fewer one by one takes no time to speak of
_DIGEST_BYTES = 32  # sha256 of the parquet file that follows it
_YOUNG_NS = 2_000_000_000
_READ_AT_ONCE = 1000
_ROWS_AT_ONCE = 10_000
_REPEATING = ["origin", "inputs.key_value.key", "drops.key_value.key"]


def read_receipts(storage: Storage, column: str) -> Receipts:
    """All receipts of a column that can be read; the others are named."""
    listing = Listing.of(storage, column)
    table = _confirmed(_load_index(storage, column), listing.receipts)
    known = set(table["shard"].to_pylist())
    tables, damaged = [table], dict[str, str]()
    for rows in _opened(storage, column, [shard for shard in listing.receipts if shard not in known], damaged):
        tables.append(pa.Table.from_pylist([receipt_row(r, listing.receipts[r.shard]) for r in rows], schema=SCHEMA))
    if len(tables) > 1:  # what comes from the index is sorted
        table = pa.concat_tables(tables).unify_dictionaries().sort_by("shard")
    opened = len(table) - len(known)
    return Receipts(
        column,
        table,
        opened=opened,
        damaged=damaged,
        failed=listing.failed,
        put_back=listing.marks,
        claimed=listing.claims,
    )


def write_index(storage: Storage, receipts: Receipts) -> None:
    """Writes the index of a column anew, if enough of its receipts were not in it to be worth the while."""
    if receipts.opened < WORTH_INDEXING:
        return
    newest_ns = max(receipts.table["receipt_mtime_ns"].to_pylist())
    settled = receipts.table.filter(pc.field("receipt_mtime_ns") < newest_ns - _YOUNG_NS)
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": _REPEATING, "row_group_size": _ROWS_AT_ONCE}
    pq.write_table(settled, sink, **options)
    data = sink.getvalue().to_pybytes()
    storage.write_bytes(index_path(receipts.column), hashlib.sha256(data).digest() + data)


class IndexKeeper:
    """Keeps the indices near what is there while a run goes on; the work is in proportion to the receipts written."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._written: Counter[str] = Counter()  # since the index was written
        self._total: Counter[str] = Counter()

    def wrote(self, column: str) -> None:
        """A receipt was written: the index is renewed whenever the column has grown by a quarter."""
        self._written[column] += 1
        if self._written[column] >= max(WORTH_INDEXING, self._total[column] // 4):
            self.refresh(column)

    def refresh(self, column: str) -> None:
        """Renews the index of a column now, if that is worth the while."""
        receipts = read_receipts(self._storage, column)
        write_index(self._storage, receipts)
        self._written[column], self._total[column] = 0, len(receipts)


def _load_index(storage: Storage, column: str) -> Iterator[pa.RecordBatch]:
    """The index as it was written; nothing where it is missing, damaged, or of another version."""
    try:
        stored = memoryview(storage.read_bytes(index_path(column)))
    except FileNotFoundError:
        return
    digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() == digest:
        file = pq.ParquetFile(pa.BufferReader(data))
        if file.schema_arrow.equals(SCHEMA):
            yield from file.iter_batches(_ROWS_AT_ONCE, use_threads=False)


def _confirmed(index: Iterable[pa.RecordBatch], listed: dict[str, Entry]) -> pa.Table:
    """The rows of an index whose receipts are still those that were read."""
    kept = []
    for batch in index:
        rows = zip(*(batch[name].to_pylist() for name in ("shard", "receipt_bytes", "receipt_mtime_ns")), strict=True)
        kept.append(batch.filter(pa.array([listed.get(shard) == Entry(*entry) for shard, *entry in rows], pa.bool_())))
    return pa.Table.from_batches(kept, SCHEMA)


def _opened(storage: Storage, column: str, shards: Sequence[str], damaged: dict[str, str]) -> Iterator[list[Receipt]]:
    """The receipts of some shards, read one by one, in lists of bounded length; those that are damaged go apart."""
    for first in range(0, len(shards), _READ_AT_ONCE):
        part, found = shards[first : first + _READ_AT_ONCE], list[Receipt]()
        for shard, data in zip(part, _read_those_there(storage, column, part), strict=True):
            try:
                found += [read_receipt(data, column, shard)] if data is not None else []
            except ColumnError as error:
                damaged[shard] = str(error)
        yield found


def _read_those_there(storage: Storage, column: str, shards: Sequence[str]) -> list[bytes | None]:
    """The bytes of receipts; None for one that a worker has taken away since the listing."""
    paths = [receipt_path(column, shard) for shard in shards]
    try:
        return list(storage.read_many(paths))
    except FileNotFoundError:
        return [_read_if_there(storage, path) for path in paths]


def _read_if_there(storage: Storage, path: str) -> bytes | None:
    try:
        return storage.read_bytes(path)
    except FileNotFoundError:
        return None
