"""Following samples and columns through a run by its receipts: what was made from what, by which step."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..records.keys import ColumnError
from ..records.tar import Member, index_tar
from ..storage.hashing import canonical_json
from .receipts import Basis, Receipt
from .rundir import RunDir

_BUFFER_BYTES = 1 << 20


def followers(run: RunDir, receipt: Receipt) -> dict[str, Receipt]:
    """A shard and what was made from it under the same shard id, by column, each after what it was made from."""
    there = {column: run.receipt(column, receipt.shard) for column in run.columns()}
    found = {receipt.column: receipt}
    while more := {
        column: other
        for column, other in there.items()
        if other and column not in found and not found.keys().isdisjoint(other.basis.inputs)
    }:
        found |= more
    return found


def find_row(run: RunDir, receipt: Receipt, key: str) -> dict[str, Any] | None:
    """What a shard holds of a sample: the fields of a table, or the JSON of a tar and the sizes of its other fields."""
    return next((fields for _, fields in find_rows(run, receipt, key, key)), None)


def find_rows(run: RunDir, receipt: Receipt, first: str, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and fields, as `find_row` gives them, of the samples from one key to another; keys of a shard rise."""
    path = receipt.output.path
    if path.endswith(".parquet"):
        for row in _table_rows(run, path, first, last):
            yield row.pop(next(iter(row))), row
    elif path.endswith(".tar"):
        yield from _tar_rows(run, path, first, last)


def first_key(run: RunDir, receipt: Receipt) -> str:
    """The first key of a tar shard; empty if it holds none."""
    with run.storage.open(receipt.output.path) as stream:
        return next((member.key for member in index_tar(stream)), "")


def drop_rows(run: RunDir, receipt: Receipt) -> list[dict[str, Any]]:
    """The drops of a shard as they lie in its table."""
    if receipt.drops_output is None:
        return []
    with run.storage.open(receipt.drops_output.path) as stream:
        return pq.read_table(stream).to_pylist()


@dataclass(frozen=True)
class Producer:
    """What made some shards of a column: one step, with one set of settings and weights."""

    basis: Basis  # of the first of the shards
    fingerprints: Mapping[str, str]  # by shard


def producers(receipts: Mapping[str, Receipt]) -> list[Producer]:
    """The producers of a column: mostly one, or as many as steps write it."""
    found: dict[bytes, tuple[Basis, dict[str, str]]] = {}
    for shard, receipt in receipts.items():
        basis = receipt.basis
        same = canonical_json([basis.step, basis.version, basis.settings, basis.external, basis.assets])
        found.setdefault(same, (basis, {}))[1][shard] = receipt.fingerprint
    return [Producer(basis, fingerprints) for basis, fingerprints in found.values()]


def _table_rows(run: RunDir, path: str, first: str, last: str) -> list[dict[str, Any]]:
    try:
        with run.storage.open(path) as stream:
            key = pq.ParquetFile(stream).schema_arrow.names[0]
            stream.seek(0)
            return pq.read_table(stream, filters=[(key, ">=", first), (key, "<=", last)]).to_pylist()
    except (pa.ArrowException, IndexError) as error:
        raise ColumnError(f"{run.storage.address(path)}: broken parquet") from error


def _tar_rows(run: RunDir, path: str, first: str, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows: dict[str, dict[str, Any]] = {}
    with _buffered(run, path) as stream:
        for member in index_tar(stream):
            if member.key > last:
                break
            if member.key >= first:
                rows.setdefault(member.key, {})[member.field] = member
        for row in rows.values():
            for field, member in row.items():
                row[field] = _json(stream, member) if field == "json" else {"bytes": member.bytes}
    yield from rows.items()


def _json(stream: IO[bytes], member: Member) -> Any:
    stream.seek(member.offset)
    return json.loads(stream.read(member.bytes))


@contextmanager
def _buffered(run: RunDir, path: str) -> Iterator[IO[bytes]]:
    """A stream to read headers from. On a store it reads ahead: that is cheaper than many small requests."""
    with run.storage.open(path) as stream:
        yield stream if run.storage.is_local else io.BufferedReader(stream, _BUFFER_BYTES)  # type: ignore[arg-type]
