"""Where every sample of a packed column lies: a table that packing writes, and the loader's index made from it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...engine.rundir.members import read_members
from ...engine.rundir.receipts import Receipt
from ...engine.storage.storage import Storage, StorageError
from ...models.data.shards import INDEX_SCHEMA, ShardRef, ShardSet, merged, scan_shards
from ...models.data.streaming import ShardStream
from .assignment import SAMPLES
from .index import read_index

_TEXTS, _FIGURES = INDEX_SCHEMA.names[:3], INDEX_SCHEMA.names[3:]
_STORED = pa.schema([*((name, pa.string()) for name in _TEXTS), *((name, pa.int64()) for name in _FIGURES)])
_SIDE_BY_SIDE = 16
_UNUSED_S = 7 * 24 * 3600.0


def write_samples(path: Path, storage: Storage, receipts: Sequence[Receipt]) -> None:
    """Writes the table of all samples of packed shards, as INDEX_SCHEMA names it, shard by shard, a row group each."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool, pq.ParquetWriter(path, _STORED, compression="zstd") as writer:
        for first in range(0, len(receipts), _SIDE_BY_SIDE):
            for table in pool.map(lambda receipt: _rows(storage, receipt), receipts[first : first + _SIDE_BY_SIDE]):
                writer.write_table(table)


def _rows(storage: Storage, receipt: Receipt) -> pa.Table:
    members, name = read_members(storage, receipt, "jpg", "depth.png"), Path(receipt.output.path).name
    jpg, depth_png = (members[field].combine_chunks() for field in ("jpg", "depth.png"))
    columns = [members["key"], pa.repeat(pa.scalar(name), len(members)), members["source"]]
    places = [place.field(figure) for place in (jpg, depth_png) for figure in ("offset", "bytes")]
    return pa.table([*columns, *places], schema=_STORED)


def open_samples(storage: Storage, column: str, split: str) -> ShardSet:
    """The samples of a split, for reading at random: their index is made once a node, and mapped by all its processes.

    A column that was packed without the table of samples, or by others, is scanned for it. Raises ValueError if the
    column is not packed, or not what its index says.
    """
    entries = _entries(storage, column, split)
    identity = repr((storage.address(column), split, [sorted(entry.items()) for entry in entries]))
    place = _node_folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.arrow"
    with _locked(place.with_suffix(".lock")):
        if not place.exists():
            _delete_unused(place.parent)
            _write_index(place, _index(storage, column, entries))
        os.utime(place)
        index = pa.ipc.open_file(pa.memory_map(str(place))).read_all()
    samples = ShardSet(index, storage, f"{column}/")
    if samples.sizes != [entry["samples"] for entry in entries]:
        place.unlink()
        raise ValueError(f"{storage.address(column)}: its table of samples does not fit its index")
    return samples


def stream_samples(storage: Storage, column: str, split: str) -> ShardStream:
    """The samples of a split, for reading from front to back. Raises ValueError if the column is not packed."""
    return ShardStream(tuple(_refs(_entries(storage, column, split))), storage, f"{column}/")


def _entries(storage: Storage, column: str, split: str) -> list[dict[str, Any]]:
    return [entry for entry in read_index(storage, column) if entry["split"] == split and entry["samples"]]


def _refs(entries: list[dict[str, Any]]) -> list[ShardRef]:
    return [ShardRef(entry["name"], entry["samples"]) for entry in entries]


def _index(storage: Storage, column: str, entries: list[dict[str, Any]]) -> pa.Table:
    try:
        with storage.open(f"{column}/{SAMPLES}.parquet") as stream:
            names = [entry["name"] for entry in entries]
            table = pq.read_table(stream, filters=[("shard", "in", names)]) if names else INDEX_SCHEMA.empty_table()
            return merged([table.cast(INDEX_SCHEMA)])
    except FileNotFoundError:
        return scan_shards(_refs(entries), storage, f"{column}/")


def _write_index(place: Path, index: pa.Table) -> None:
    unfinished = place.with_suffix(".part")
    with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, index.schema) as writer:
        writer.write_table(index)
    unfinished.replace(place)


def _node_folder() -> Path:
    """A folder of this user on this machine. Raises StorageError if it is somebody else's."""
    folder = Path(tempfile.gettempdir()) / f"dap-samples-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder}: belongs to somebody else")
    return folder


def _delete_unused(folder: Path) -> None:
    """Deletes what was not used for a week."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has deleted it
            if time.time() - path.stat().st_mtime > _UNUSED_S:
                path.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
