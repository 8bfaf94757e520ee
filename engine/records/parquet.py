"""Small tables whose first field is the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .keys import ColumnError, RisingKeys, UniqueKeys
from .sample import Row


class ParquetWriter:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema, self._keys = path, schema, RisingKeys()
        self._fields = frozenset(schema.names[1:])
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        self._keys.check(row.key)
        fields = {**row.fields, self._schema.names[0]: row.key}
        if len(fields) != len(self._schema) or not fields.keys() >= self._fields:
            raise ColumnError(f"{row.key}: has fields {sorted(row.fields)}, the column {sorted(self._fields)}")
        self._rows.append(fields)

    def mark(self) -> Callable[[], None]:
        undo_keys, count = self._keys.mark(), len(self._rows)

        def undo() -> None:
            undo_keys()
            del self._rows[count:]

        return undo

    def finish(self) -> Path:
        pq.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), self._path, compression="zstd")
        return self._path

    def close(self) -> None:
        """Nothing is open."""


def read_parquet(stream: IO[bytes]) -> Iterator[Row]:
    """Rows of a parquet shard; the first field is the key. Raises ColumnError for a broken file or a repeated key."""
    try:
        table = pq.read_table(pa.BufferReader(stream.read()))
    except pa.ArrowException as error:
        raise ColumnError(f"broken parquet: {error}") from error
    keys = UniqueKeys()
    for fields in table.to_pylist():
        key = fields[table.schema.names[0]]
        keys.check(key)
        yield Row(key, fields)
