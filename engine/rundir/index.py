"""Reading all receipts of a column: one listing, an index, and only those receipts that the index does not know.

The index is a cache: a row counts only while the listing shows the size and time that its receipt had when it was read.
It may be deleted at any time, and damaged parts are ignored. It is a set of parts,
`.index/<column>/<sha256 of its content>.parquet`, so that it grows with a run and is never rewritten.

Receipts younger than two seconds stay out of it: clocks of stores tick in seconds, so such a receipt could still be
replaced by one of the same size and time.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..records.keys import ColumnError
from ..storage.storage import LISTED, Entry, Storage
from .listing import Listing, index_folder, receipt_path
from .receipt_table import SCHEMA, Receipts, receipt_row
from .receipts import read_receipt

WORTH_INDEXING = 1000  # receipts; opening fewer one by one takes no time to speak of
MOST_PARTS = 16  # of an index, when a run begins
_SUFFIX = ".parquet"
_YOUNG_NS = 2_000_000_000
_READ_AT_ONCE = 1000
_ROWS_AT_ONCE = 10_000
_REPEATING = ["origin", "drops.key_value.key"]


def read_receipts(storage: Storage, column: str) -> Receipts:
    """All receipts of a column that can be read; `damaged` names the others."""
    listing, damaged = Listing.of(storage, column), dict[str, str]()
    parts = _parts(storage, column)
    known = _confirmed(_load(storage, column, parts), listing.receipts)
    unknown = listing.receipts.filter(pc.invert(pc.is_in(listing.receipts["shard"], value_set=known["shard"])))
    opened = pa.concat_tables([SCHEMA.empty_table(), *_opened(storage, column, unknown, damaged)])
    table = _sorted(pa.concat_tables([known, opened]).unify_dictionaries()) if len(opened) else known
    return Receipts(
        column,
        table,
        opened=len(opened),
        parts=parts,
        damaged=damaged,
        failed=listing.failed,
        marked=listing.marks,
        claimed=listing.claims,
    )


def write_index(storage: Storage, receipts: Receipts) -> None:
    """Rewrites the index of a column as one part, if many receipts are not in it, or if it has many parts."""
    if receipts.opened < WORTH_INDEXING and len(receipts.parts) <= MOST_PARTS:
        return
    written = _write_part(storage, receipts.column, _settled(receipts.table))
    for part in set(receipts.parts) - {written}:
        storage.delete(f"{index_folder(receipts.column)}/{part}")


class IndexWriter:
    """Adds to the indices while a run goes on, in parts of bounded size: memory does not grow with the run."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._new: defaultdict[str, list[str]] = defaultdict(list)  # shards, by column
        self._left: Counter[str] = Counter()  # how many of them were too young for the last part

    def wrote(self, column: str, shard: str) -> None:
        """A receipt was written: so many of them become a part of the index, less those that are too young."""
        self._new[column].append(shard)
        if len(self._new[column]) >= self._left[column] + 2 * WORTH_INDEXING:
            self._new[column] = self._add_part(column, self._new[column])
            self._left[column] = len(self._new[column])

    def _add_part(self, column: str, shards: list[str]) -> list[str]:
        """Returns the shards that are left for the next part."""
        entries = self._storage.infos([receipt_path(column, shard) for shard in shards])
        there = {shard: entry for shard, entry in zip(shards, entries, strict=True) if entry}
        figures = [entry.bytes for entry in there.values()], [entry.mtime_ns for entry in there.values()]
        listed = pa.table([[*there], *figures], schema=LISTED)
        table = pa.concat_tables([SCHEMA.empty_table(), *_opened(self._storage, column, listed, {})])
        settled = _settled(_sorted(table))
        if len(settled):
            _write_part(self._storage, column, settled)
        return pc.filter(table["shard"], pc.invert(pc.is_in(table["shard"], value_set=settled["shard"]))).to_pylist()


def _settled(table: pa.Table) -> pa.Table:
    """The rows of receipts that are older than the newest one by more than a clock's tick."""
    times_ns = table["receipt_mtime_ns"]
    return table.filter(pc.less(times_ns, pc.subtract(pc.max(times_ns), _YOUNG_NS)))


def _sorted(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table["shard"]))


def _write_part(storage: Storage, column: str, table: pa.Table) -> str:
    """Returns the name of the part."""
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": _REPEATING, "row_group_size": _ROWS_AT_ONCE}
    pq.write_table(table, sink, **options)
    data = sink.getvalue().to_pybytes()
    name = hashlib.sha256(data).hexdigest() + _SUFFIX
    storage.write_bytes(f"{index_folder(column)}/{name}", data)
    return name


def _parts(storage: Storage, column: str) -> list[str]:
    return [name for name in storage.list(index_folder(column)) if name.endswith(_SUFFIX)]


def _load(storage: Storage, column: str, parts: Sequence[str]) -> Iterator[pa.Table]:
    """The index as it was written, part by part, less what is missing by now, damaged, or of another version."""
    for part in parts:
        data = _read_if_there(storage, f"{index_folder(column)}/{part}")
        if data is None or hashlib.sha256(data).hexdigest() != part.removesuffix(_SUFFIX):
            continue
        with contextlib.suppress(pa.ArrowInvalid):  # somebody else's
            file = pq.ParquetFile(pa.BufferReader(data))
            if file.schema_arrow.equals(SCHEMA):
                yield file.read(use_threads=False)


def _confirmed(index: Iterable[pa.Table], listed: pa.Table) -> pa.Table:
    """The rows of an index whose receipts are still those that were read, sorted by shard, one for each."""
    rows = pa.concat_tables([SCHEMA.empty_table(), *index])
    there = listed.take(pc.index_in(rows["shard"], value_set=listed["shard"]))
    same = pc.and_(*(pc.equal(there[name], rows[f"receipt_{name}"]) for name in ("bytes", "mtime_ns")))
    kept = rows if pc.all(same, skip_nulls=False).as_py() else rows.filter(same)
    order = pc.index_in(listed["shard"], value_set=kept["shard"]).drop_null()
    in_order = order.equals(pa.chunked_array([pa.array(range(len(kept)), pa.int32())]))
    return (kept if in_order else kept.take(order)).unify_dictionaries()


def _opened(storage: Storage, column: str, listed: pa.Table, damaged: dict[str, str]) -> Iterator[pa.Table]:
    """The receipts of some shards, read one by one, in tables of bounded length; those that are damaged go apart."""
    for first in range(0, len(listed), _READ_AT_ONCE):
        shards, sizes, times_ns = (column.to_pylist() for column in listed.slice(first, _READ_AT_ONCE).columns)
        contents = _read_those_there(storage, [receipt_path(column, shard) for shard in shards])
        rows = []
        for shard, entry, data in zip(shards, map(Entry, sizes, times_ns), contents, strict=True):
            try:
                rows += [receipt_row(read_receipt(data, column, shard), entry)] if data is not None else []
            except ColumnError as error:
                damaged[shard] = str(error)
        yield pa.Table.from_pylist(rows, schema=SCHEMA)


def _read_those_there(storage: Storage, paths: Sequence[str]) -> list[bytes | None]:
    """The bytes of small objects; None for one that was taken away since the listing."""
    try:
        return list(storage.read_many(list(paths)))
    except FileNotFoundError:
        return [_read_if_there(storage, path) for path in paths]


def _read_if_there(storage: Storage, path: str) -> bytes | None:
    try:
        return storage.read_bytes(path)
    except FileNotFoundError:
        return None
