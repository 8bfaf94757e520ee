"""Reading shards as rows, and joining the shards of several columns on the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .keys import ColumnError, RisingKeys
from .parquet import read_parquet
from .sample import Row
from .tar import read_tar


def read_rows(path: str, stream: IO[bytes]) -> Iterator[Row]:
    """Rows of a shard object, the codec taken from the suffix of its path."""
    readers = {".tar": read_tar, ".parquet": read_parquet}
    reader = readers.get(Path(path).suffix)
    if reader is None:
        raise ColumnError(f"{path}: has no rows; known suffixes are {sorted(readers)}")
    return reader(stream)


def merge_on_key(columns: Mapping[str, Iterator[Row]]) -> Iterator[tuple[str, dict[str, Mapping[str, Any]]]]:
    """Inner join of streams with rising keys: yields each key that all columns have, with its fields by column.

    Raises:
        ColumnError: the keys of a stream do not rise.
    """
    streams = {name: _rising(rows) for name, rows in columns.items()}
    heads = {name: next(rows, None) for name, rows in streams.items()}
    while all(heads.values()):
        top = max(row.key for row in heads.values() if row)
        behind = [name for name, row in heads.items() if row and row.key < top]
        if not behind:
            yield top, {name: row.fields for name, row in heads.items() if row}
        for name in behind or list(heads):
            heads[name] = next(streams[name], None)


def _rising(rows: Iterator[Row]) -> Iterator[Row]:
    keys = RisingKeys()
    for row in rows:
        keys.check(row.key)
        yield row
