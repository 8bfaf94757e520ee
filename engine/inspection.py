"""Reads one object from front to back: its hash, the keys it holds, and what is wrong with it in itself."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.columns import ColumnError, Member, check_key
from engine.storage import Storage, StorageError

KEY = "key"
_CHUNK_BYTES = 1 << 20
_MAX_JSON_BYTES = 4 << 20
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Content:
    """What an object holds. `keys` is None where there are no rows, or where they cannot be read."""

    sha256: str
    bytes: int
    keys: pa.Array | None = None
    key_name: str = KEY
    members: tuple[Member, ...] = ()  # of a tar
    flaws: tuple[str, ...] = ()

    @property
    def is_rising(self) -> bool:
        """Whether each key is above the one before it."""
        return self.keys is None or pc.all(pc.less(self.keys[:-1], self.keys[1:])).as_py() is not False


def inspect_object(storage: Storage, path: str) -> Content | None:
    """Reads an object (or all files of a folder) once, never holding it in memory; None if there is none.

    Raises:
        StorageError: the storage cannot be reached. What cannot be read for another reason is a flaw.
    """
    try:
        if path.endswith((".tar", ".parquet")):
            return _inspect_rows(storage, path)
        sha256 = storage.hash_object(path)
        size = storage.size(path)
        return Content(sha256, sum(storage.list(path).values()) if size is None else size) if sha256 else None
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except OSError as error:
        return Content("", 0, flaws=(f"cannot be read: {_one_line(error)}",))


def _inspect_rows(storage: Storage, path: str) -> Content:
    with storage.open(path) as stream:
        passing = _Hashing(stream)
        if path.endswith(".tar"):
            members, flaws = _scan_tar(passing)
            passing.drain()
            keys = pa.array([key for key, _ in _samples(members)], pa.string()) if not flaws else None
            flaws += [] if flaws else _layout_flaws(members)
            return _content(passing, keys, flaws, members=tuple(members))
        passing.drain()
        stream.seek(0)
        key_name, keys, flaws = _scan_parquet(stream)
        return _content(passing, keys, flaws, key_name=key_name)


def _content(passed: _Hashing, keys: pa.Array | None, flaws: list[str], **more: object) -> Content:
    flaws = flaws + (_key_flaws(keys) if keys is not None else [])
    return Content(passed.sha256, passed.bytes, keys, flaws=tuple(flaws), **more)  # type: ignore[arg-type]


class _Hashing:
    """A stream that is hashed and counted as it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self.bytes = stream, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        self.bytes += len(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK_BYTES):
            pass

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _scan_tar(stream: _Hashing) -> tuple[list[Member], list[str]]:
    """The members of a tar up to where it breaks, and why it does."""
    members: list[Member] = []
    flaws: list[str] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as tar:  # type: ignore[call-overload]
            for member in tar:
                key, _, field = member.name.partition(".")
                if not (member.isreg() and field):
                    return members, [f"unexpected member {member.name!r}"]
                members.append(Member(key, field, member.offset_data, member.size))
                if field.split(".")[-1] == "json" and not _holds_json(tar, member):
                    flaws.append(f"{member.name} is no JSON")
    except tarfile.TarError as error:
        flaws.append(f"broken tar: {error}")
    return members, flaws[:1]


def _holds_json(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    extracted = tar.extractfile(member)
    if extracted is None or member.size > _MAX_JSON_BYTES:
        return False
    try:
        json.loads(extracted.read())
    except (ValueError, RecursionError):
        return False
    return True


def _samples(members: Iterable[Member]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Key and fields of every sample; a field that comes again begins another sample."""
    for key, group in groupby(members, lambda member: member.key):
        fields: list[str] = []
        for member in group:
            if member.field in fields:
                yield key, tuple(fields)
                fields = []
            fields.append(member.field)
        yield key, tuple(fields)


def _layout_flaws(members: Sequence[Member]) -> list[str]:
    """A line where one sample has other fields than the first."""
    layouts = {tuple(sorted(fields)): key for key, fields in reversed(list(_samples(members)))}
    if len(layouts) < 2:
        return []
    (usual, first), (other, key) = sorted(layouts.items(), key=lambda item: item[1])[:2]
    return [f"{key!r} has the fields {list(other)}, {first!r} {list(usual)}"]


def _scan_parquet(stream: IO[bytes]) -> tuple[str, pa.Array | None, list[str]]:
    """Name and values of the key, the first field of a table."""
    try:
        table = pq.ParquetFile(stream)
        name = table.schema_arrow.names[0]
        batches = table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name])
        keys = pa.chunked_array([batch[0].cast(pa.string()) for batch in batches], pa.string())
        return name, keys.combine_chunks(), []
    except StorageError:
        raise
    except (pa.ArrowException, OSError, IndexError) as error:  # Arrow reports damaged pages as OSError
        return KEY, None, [f"broken parquet: {_one_line(error)}"]


def _key_flaws(keys: pa.Array) -> list[str]:
    """Keys that are none, and keys that come more than once."""
    flaws: list[str] = []
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        flaws += filter(None, (_key_flaw(key) for key in keys[start : start + _ROWS_AT_ONCE].to_pylist()))
    counts = pc.value_counts(keys)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return flaws[:1] + ([f"the key {listed(twice.to_pylist())} comes twice"] if len(twice) else [])


def _key_flaw(key: str | None) -> str:
    try:
        check_key(key or "")
    except ColumnError as error:
        return str(error)
    return ""


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
