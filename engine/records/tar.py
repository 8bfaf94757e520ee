"""WebDataset shards: KEY.ext members, mtime 0. The same rows give the same bytes, and nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ..storage.hashing import canonical_json
from .keys import ColumnError, RisingKeys, UniqueKeys, check_key
from .sample import Row

_MAX_JSON_BYTES = 4 << 20


class TarWriter:
    def __init__(self, path: Path, fields: tuple[str, ...], keys: RisingKeys | UniqueKeys) -> None:
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


def _is_json(field: str) -> bool:
    return field == "json" or field.endswith(".json")


def read_tar(stream: IO[bytes]) -> Iterator[Row]:
    """Rows of a tar shard, read once from front to back.

    Raises:
        ColumnError: truncated or foreign tar, a repeated key or field, a bad name, oversized json.
    """
    keys, key, fields = UniqueKeys(), "", {}
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


PLACE = pa.struct([("offset", pa.int64()), ("bytes", pa.int64())])
FACTS = ("split", "scene", "video_id", "source")  # what steps that see whole columns ask of a sample's json
HEADER_BYTES = 512  # of the header that a member's content follows


def tabulate_tar(stream: IO[bytes]) -> pa.Table:
    """A row a sample: key, the FACTS of its json, and the PLACE of each of its fields, null for what is not there.

    Reads headers and json alone. Raises ColumnError.
    """
    rows: dict[str, dict[str, Any]] = {}
    fields: dict[str, None] = {}
    for member in list(index_tar(stream)):
        row = rows.setdefault(member.key, {"key": member.key})
        row[member.field] = {"offset": member.offset, "bytes": member.bytes}
        fields[member.field] = None
        if member.field == "json":
            stream.seek(member.offset)
            row |= _facts(stream.read(member.bytes))
    schema = [("key", pa.string()), *((fact, pa.string()) for fact in FACTS), *((field, PLACE) for field in fields)]
    return pa.Table.from_pylist(list(rows.values()), schema=pa.schema(schema))


def _facts(data: bytes) -> dict[str, str]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {fact: values[fact] for fact in FACTS if isinstance(values.get(fact), str)}


def content_at(data: bytes, start: int, size: int, name: str) -> bytes:
    """The content of a member, whose header `data` holds just before `start`; ColumnError if it is another's."""
    try:
        header = tarfile.TarInfo.frombuf(data[start - HEADER_BYTES : start], "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ColumnError(f"no {name} lies there: {error}") from error
    if (header.name, header.size) != (name, size) or len(data) < start + size:
        raise ColumnError(f"no {name} of {size} bytes lies there")
    return data[start : start + size]
