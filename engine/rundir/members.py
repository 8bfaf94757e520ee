"""What the tars of a run hold, written down once when a shard is committed, so that nobody scans a tar for it.

A table lies in `.members/<column>/` and is named by the hash of its tar: it is never stale, and may be deleted.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..records.keys import ColumnError
from ..records.tar import PLACE, tabulate_tar
from ..storage.storage import Storage
from .receipts import Receipt

_SUFFIX = ".tar"


def members_path(column: str, shard: str, sha256: str) -> str:
    """Place of the table of a tar with this content."""
    return f".members/{column}/{shard}-{sha256[:16]}.parquet"


def note_members(storage: Storage, column: str, shard: str, sha256: str, local: Path) -> None:
    """Writes down what a local tar holds that is about to be committed; nothing of other files, nor of others' tars."""
    if local.suffix != _SUFFIX:
        return
    try:
        with local.open("rb") as stream:
            table = tabulate_tar(stream)
    except ColumnError:
        return
    _write(storage, members_path(column, shard, sha256), table)


def read_members(storage: Storage, receipt: Receipt, *fields: str) -> pa.Table:
    """What the tar of a receipt holds, as `tabulate_tar` says it, from its table, or from the tar if there is none.

    `fields` are there in any case: of a tar that has none of a field, as one without samples, with nulls.

    Raises:
        ColumnError: the tar has to be read, and is broken.
    """
    path = members_path(receipt.column, receipt.shard, receipt.output.sha256)
    try:
        table = pq.read_table(pa.BufferReader(storage.peek(path)), use_threads=False)
    except (FileNotFoundError, pa.ArrowException):
        with storage.open(receipt.output.path) as stream:
            table = tabulate_tar(stream)
        _write(storage, path, table)
    for field in fields:
        if field not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), PLACE))
    return table


def forget_members(storage: Storage, receipt: Receipt) -> None:
    """Deletes the table of a tar that is replaced or deleted."""
    if receipt.output.path.endswith(_SUFFIX):
        storage.delete(members_path(receipt.column, receipt.shard, receipt.output.sha256))


def _write(storage: Storage, path: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(path, sink.getvalue().to_pybytes())
