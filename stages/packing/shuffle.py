"""A shuffle of any number of rows on disk: sorted by hash(seed, key), in memory that does not grow with them."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ROWS_AT_ONCE = 1 << 17
_DIGEST = "digest"
_DIGEST_BYTES = 32


class Shuffle:
    """Takes tables of rows that have a `key`, and hands them out in the order of sha256("<seed>:<key>").

    Rows are sorted some at a time, and written to `folder`; then one range of hashes after another is gathered from
    what was written. The order depends on the keys alone.
    """

    def __init__(self, folder: Path, seed: int, rows_at_once: int = _ROWS_AT_ONCE) -> None:
        self._folder, self._seed, self._rows_at_once = folder, seed, rows_at_once
        self._waiting: list[pa.Table] = []
        self._files: list[Path] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Takes some rows."""
        digests = [hashlib.sha256(f"{self._seed}:{key}".encode()).digest() for key in table["key"].to_pylist()]
        self._waiting.append(table.append_column(_DIGEST, pa.array(digests, pa.binary(_DIGEST_BYTES))))
        self.rows += len(table)
        if sum(map(len, self._waiting)) >= self._rows_at_once:
            self._write()

    def _write(self) -> None:
        self._files.append(self._folder / f"{len(self._files)}.arrow")
        table = _sorted(self._waiting)
        with pa.OSFile(str(self._files[-1]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        self._waiting = []

    def tables(self) -> Iterator[pa.Table]:
        """All rows in their order, in tables of bounded length. Raises RepeatedKeyError at a key that comes twice."""
        if self._waiting:
            self._write()
        parts = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in self._files]
        heads = [_heads(part) for part in parts]
        ranges = -(-self.rows // self._rows_at_once)
        begins = [0] * len(parts)
        for number in range(1, ranges + 1):
            limit = number * 2**64 // ranges
            ends = [len(h) if limit == 2**64 else int(np.searchsorted(h, np.uint64(limit))) for h in heads]
            slices = [part.slice(b, e - b) for part, b, e in zip(parts, begins, ends, strict=True)]
            table, begins = _sorted(slices), ends
            _check_unique(table)
            yield table.drop_columns([_DIGEST])


class RepeatedKeyError(ValueError):
    """Two rows of one key; `rows` holds them."""

    def __init__(self, rows: pa.Table) -> None:
        super().__init__(f"key {rows['key'][0].as_py()!r} comes twice")
        self.rows = rows


def _sorted(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables).combine_chunks()
    return table.take(pc.sort_indices(table[_DIGEST]))


def _heads(table: pa.Table) -> np.ndarray:
    """The first eight bytes of each digest as a number, rising."""
    digests = table[_DIGEST].combine_chunks()
    data = np.frombuffer(digests.buffers()[1], np.uint8)[digests.offset * _DIGEST_BYTES :]
    rows = data[: len(digests) * _DIGEST_BYTES].reshape(-1, _DIGEST_BYTES)
    return np.ascontiguousarray(rows[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _check_unique(table: pa.Table) -> None:
    digests = table[_DIGEST].combine_chunks()
    same = pc.index(pc.equal(digests[:-1], digests[1:]), True).as_py() if len(digests) > 1 else -1
    if same >= 0:
        raise RepeatedKeyError(table.slice(same, 2))
