"""WebDataset shards: KEY.ext members, mtime 0. The same rows give the same bytes, and nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
