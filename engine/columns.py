"""Columns and their codecs. The same rows give the same bytes, and nothing is ever unpickled.

A tar column is a WebDataset shard (KEY.ext members, mtime 0, keys rising), a parquet column a small table whose first
field is the key, a folder column a directory of KEY.ext files. Readers need no schema: the suffix says the codec.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.stage import Row

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,199}")
_MAX_JSON_BYTES = 4 << 20


class ColumnError(ValueError):
    """An object that is not what its codec says, or a row that a codec cannot hold."""


def check_key(key: str) -> str:
    """Returns the key; raises ColumnError unless it is 1 to 200 of [A-Za-z0-9_-] (a dot would end the key)."""
    if not _KEY.fullmatch(key):
        raise ColumnError(f"bad sample key {key!r}: use letters, digits, '_' and '-', up to 200 of them")
    return key


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one value, one byte string."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class Writer(Protocol):
    """Takes rows with rising keys; `finish` returns the finished local file or folder."""

    def add(self, row: Row) -> None: ...

    def mark(self) -> Callable[[], None]:
        """Returns what takes back all rows added after this call."""
        ...

    def close(self) -> None:
        """Lets go of what is open, finished or not."""

    def finish(self) -> Path: ...


@dataclass(frozen=True)
class Column(ABC):
    """A named column and how a shard of it is encoded."""

    name: str

    suffix = ""

    def path(self, shard: str) -> str:
        """Place of a shard, relative to the run directory."""
        return f"{self.name}/{shard}{self.suffix}"

    @abstractmethod
    def writer(self, scratch: Path) -> Writer:
        """A writer that works inside the empty folder `scratch`."""


@dataclass(frozen=True)
class TarColumn(Column):
    """WebDataset shards. `fields` are the extensions of a sample; `json` ones take dicts, the others bytes."""

    fields: tuple[str, ...] = ()
    shuffled: bool = False  # keys need not rise: a packed shard, which nothing is joined to
    suffix = ".tar"

    def writer(self, scratch: Path) -> Writer:
        return _TarWriter(scratch / "shard.tar", self.fields, _UniqueKeys() if self.shuffled else _RisingKeys())


@dataclass(frozen=True)
class ParquetColumn(Column):
    """Tables. `schema` is without the key, which is the first field and is named `key_name`."""

    schema: pa.Schema
    key_name: str = "key"
    suffix = ".parquet"

    def writer(self, scratch: Path) -> Writer:
        return _ParquetWriter(scratch / "shard.parquet", pa.schema([(self.key_name, pa.string()), *self.schema]))


@dataclass(frozen=True)
class FolderColumn(Column):
    """Folders of KEY.ext files: videos, models, reports."""

    def writer(self, scratch: Path) -> Writer:
        return _FolderWriter(scratch / "shard")


class _RisingKeys:
    """Refuses a key that is not above the one before it."""

    def __init__(self) -> None:
        self._last = ""

    def check(self, key: str) -> None:
        check_key(key)
        if key <= self._last:
            raise ColumnError(f"key {key!r} after {self._last!r}: the keys of a shard must rise")
        self._last = key

    def mark(self) -> Callable[[], None]:
        last = self._last

        def undo() -> None:
            self._last = last

        return undo


class _UniqueKeys:
    """Refuses a key that was there before."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}  # in the order they came

    def check(self, key: str) -> None:
        check_key(key)
        if key in self._seen:
            raise ColumnError(f"key {key!r} comes twice")
        self._seen[key] = None

    def mark(self) -> Callable[[], None]:
        count = len(self._seen)

        def undo() -> None:
            while len(self._seen) > count:
                self._seen.popitem()

        return undo


class _TarWriter:
    def __init__(self, path: Path, fields: tuple[str, ...], keys: _RisingKeys | _UniqueKeys) -> None:
        self._path, self._fields, self._keys = path, tuple(sorted(fields)), keys
        self._file = path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - finish closes

    def add(self, row: Row) -> None:
        self._keys.check(row.key)
        if tuple(sorted(row.fields)) != self._fields:
            raise ColumnError(f"{row.key}: has fields {sorted(row.fields)}, the column {list(self._fields)}")
        for field in self._fields:
            value = row.fields[field]
            data = canonical_json(value) if _is_json(field) else value
            member = tarfile.TarInfo(f"{row.key}.{field}")  # mtime, uid and gid are 0 unless set
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))

    def mark(self) -> Callable[[], None]:
        undo_keys, offset, members = self._keys.mark(), self._tar.offset, len(self._tar.getmembers())

        def undo() -> None:
            undo_keys()
            self._file.seek(offset)
            self._file.truncate()
            self._tar.offset = offset
            del self._tar.getmembers()[members:]

        return undo

    def finish(self) -> Path:
        self._tar.close()
        self._file.close()
        return self._path

    def close(self) -> None:
        self._file.close()


class _ParquetWriter:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema, self._keys = path, schema, _RisingKeys()
        self._rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        self._keys.check(row.key)
        self._rows.append({**row.fields, self._schema.names[0]: row.key})

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


class _FolderWriter:
    def __init__(self, path: Path) -> None:
        self._path, self._keys = path, _RisingKeys()
        self._written: list[Path] = []
        path.mkdir()

    def add(self, row: Row) -> None:
        self._keys.check(row.key)
        for field, data in row.fields.items():
            self._written.append(self._path / f"{row.key}.{field}")
            self._written[-1].write_bytes(data)

    def mark(self) -> Callable[[], None]:
        undo_keys, count = self._keys.mark(), len(self._written)

        def undo() -> None:
            undo_keys()
            while len(self._written) > count:
                self._written.pop().unlink(missing_ok=True)

        return undo

    def finish(self) -> Path:
        return self._path

    def close(self) -> None:
        """Nothing is open."""


def _is_json(field: str) -> bool:
    return field == "json" or field.endswith(".json")


def read_tar(stream: IO[bytes]) -> Iterator[Row]:
    """Rows of a tar shard, read once from front to back.

    Raises:
        ColumnError: truncated or foreign tar, a repeated key or field, a bad name, oversized json.
    """
    keys, key, fields = _UniqueKeys(), "", {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name, _, field = member.name.partition(".")
                if name != key and fields:
                    yield Row(key, fields)
                    fields = {}
                if not fields:
                    keys.check(name)
                    key = name
                if field in fields or not member.isreg():
                    raise ColumnError(f"unexpected member {member.name!r}")
                fields[field] = _decode(member, field, tar)
    except tarfile.TarError as error:
        raise ColumnError(f"broken tar: {error}") from error
    if fields:
        yield Row(key, fields)


def _decode(member: tarfile.TarInfo, field: str, tar: tarfile.TarFile) -> Any:
    if _is_json(field) and member.size > _MAX_JSON_BYTES:
        raise ColumnError(f"{member.name}: {member.size} bytes of json")
    extracted = tar.extractfile(member)
    assert extracted is not None  # a regular member, checked by the caller
    data = extracted.read()
    return json.loads(data) if _is_json(field) else data


def read_parquet(stream: IO[bytes]) -> Iterator[Row]:
    """Rows of a parquet shard; the first field is the key. Raises ColumnError for a broken file or a repeated key."""
    try:
        table = pq.read_table(pa.BufferReader(stream.read()))
    except pa.ArrowException as error:
        raise ColumnError(f"broken parquet: {error}") from error
    keys = _UniqueKeys()
    for fields in table.to_pylist():
        key = fields[table.schema.names[0]]
        keys.check(key)
        yield Row(key, fields)


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
    keys = _RisingKeys()
    for row in rows:
        keys.check(row.key)
        yield row


@dataclass(frozen=True)
class Member:
    """Where one field of one sample lies inside a tar shard."""

    key: str
    field: str
    offset: int
    bytes: int


def index_tar(stream: IO[bytes]) -> Iterator[Member]:
    """Members of a tar shard from its headers alone: a seekable stream is not read through. Raises ColumnError."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                key, _, field = member.name.partition(".")
                yield Member(check_key(key), field, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ColumnError(f"broken tar: {error}") from error
