"""Reads one object from front to back: its hash, the keys it holds, and what is wrong with it in itself."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..records.keys import ColumnError, check_key
from ..records.tar import Member
from ..storage.storage import Storage, StorageError

_KEY = "key"
_CHUNK_BYTES = 1 << 20
_MAX_JSON_BYTES = 4 << 20
_KEYS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Content:
    """What an object holds. `keys` is None where there are no rows, or where they cannot be read."""

    sha256: str  # empty if the object cannot be read at all
    bytes: int
    keys: pa.Array | None = None
    key_name: str = _KEY
    members: tuple[Member, ...] = ()  # of a tar
    flaws: tuple[str, ...] = ()

    @property
    def keys_rise(self) -> bool:
        """Whether each key is above the one before it."""
        return self.keys is None or all(one < other for one, other in pairwise(self.keys.to_pylist()))


def inspect_object(storage: Storage, path: str) -> Content | None:
    """Reads an object, or all files of a folder, once, and never holds it in memory; None if there is none."""
    try:
        if path.endswith(".tar"):
            return _inspect_tar(storage, path)
        if path.endswith(".parquet"):
            return _inspect_parquet(storage, path)
        sha256, size = storage.hash_object(path), storage.size(path)
        if size is None:
            size = sum(entry.bytes for entry in storage.content(path).values())
        return Content(sha256, size) if sha256 else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return Content("", 0, flaws=(f"cannot be read: {_one_line(error)}",))


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"


def repeated(keys: pa.Array | pa.ChunkedArray) -> list[str]:
    """The keys that come more than once, sorted."""
    counts = keys.value_counts()
    several = pa.array(counts.field("counts").to_numpy() > 1, pa.bool_())
    return sorted(map(str, counts.field("values").filter(several).to_pylist()))


class _HashedStream:
    """A stream whose bytes are hashed and counted as they are read."""

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

    def content(self, **found: Any) -> Content:
        return Content(self._digest.hexdigest(), self.bytes, **found)


def _inspect_tar(storage: Storage, path: str) -> Content:
    members: list[Member] = []
    flaws: list[str] = []
    with storage.open(path) as stream:
        hashed = _HashedStream(stream)
        try:
            for member, flaw in _tar_members(hashed):
                members.append(member)
                flaws += [flaw] if flaw else []
        except tarfile.TarError as error:
            hashed.drain()
            return hashed.content(flaws=(f"broken tar: {error}",))
        hashed.drain()
    keys = pa.array([key for key, _ in _samples(members)], pa.string())
    flaws = [*_key_flaws(keys), *_layout_flaws(members), *flaws[:1]]
    return hashed.content(keys=keys, members=tuple(members), flaws=tuple(flaws))


def _tar_members(stream: _HashedStream) -> Iterator[tuple[Member, str]]:
    """Members in order, each with what is wrong with it; raises TarError where the tar breaks."""
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as tar:  # type: ignore[call-overload]
        for info in tar:
            key, _, field = info.name.partition(".")
            if not info.isreg():
                yield Member(key, field, info.offset_data, info.size), f"{info.name!r} is no plain file"
            elif field.split(".")[-1] == "json" and not _is_json(tar, info):
                yield Member(key, field, info.offset_data, info.size), f"{info.name!r} holds no JSON"
            else:
                yield Member(key, field, info.offset_data, info.size), ""


def _is_json(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bool:
    extracted = tar.extractfile(info)
    if extracted is None or info.size > _MAX_JSON_BYTES:
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


def _layout_flaws(members: Iterable[Member]) -> list[str]:
    """A line if a sample has other fields than the first one."""
    first: tuple[str, list[str]] | None = None
    for key, fields in _samples(members):
        first = first or (key, sorted(fields))
        if sorted(fields) != first[1]:
            return [f"{key!r} has the fields {sorted(fields)}, {first[0]!r} {first[1]}"]
    return []


def _inspect_parquet(storage: Storage, path: str) -> Content:
    with storage.open(path) as stream:
        hashed = _HashedStream(stream)
        hashed.drain()
        stream.seek(0)
        try:
            key_name, keys = _parquet_keys(stream)
        except StorageError:
            raise
        except (ColumnError, pa.ArrowException, OSError) as error:  # Arrow reports a damaged page as OSError
            return hashed.content(flaws=(f"broken parquet: {_one_line(error)}",))
    return hashed.content(keys=keys, key_name=key_name, flaws=tuple(_key_flaws(keys)))


def _parquet_keys(stream: IO[bytes]) -> tuple[str, pa.Array]:
    """Name and values of the first field of a table; only that field is read."""
    table = pq.ParquetFile(stream)
    if not table.schema_arrow.names or not pa.types.is_string(table.schema_arrow.types[0]):
        raise ColumnError("its first field is no key")
    name = table.schema_arrow.names[0]
    batches = table.iter_batches(batch_size=_KEYS_AT_ONCE, columns=[name])
    return name, pa.chunked_array([batch.column(0) for batch in batches], pa.string()).combine_chunks()


def _key_flaws(keys: pa.Array) -> list[str]:
    """A line if there are keys that are none, and one if there are keys that come more than once."""
    flaws: list[str] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        flaws += filter(None, map(_key_flaw, keys[start : start + _KEYS_AT_ONCE].to_pylist()))
    return flaws[:1] + ([f"key {listed(twice)} comes twice"] if (twice := repeated(keys)) else [])


def _key_flaw(key: str | None) -> str:
    try:
        check_key(key or "")
    except ColumnError as error:
        return str(error)
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
