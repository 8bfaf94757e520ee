"""The assignment of a packed column: which sample is in which training shard, and where its parts come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from ...engine.rundir.rundir import RunDir

# Outputs of a packed column beside its shards. In a run directory the assignment is called `deal`: deal.parquet.
ASSIGNMENT, INDEX = "deal", "index"


def packed_columns(run: RunDir) -> list[str]:
    """The columns of a run that have an assignment."""
    return [column for column in run.columns() if run.storage.size(f"{column}/{ASSIGNMENT}.parquet") is not None]


def rows_of_shard(run: RunDir, column: str, shard: str) -> list[dict[str, Any]]:
    """The assignment of one training shard, in its order. A shard is a row group of its own; no other is read."""
    with run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
        return pq.read_table(stream, filters=[("shard", "=", shard)]).to_pylist()


def first_rows(run: RunDir, column: str) -> Iterator[dict[str, Any]]:
    """The first sample of every training shard."""
    with run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
        table = pq.ParquetFile(stream)
        for group in range(table.num_row_groups):
            yield from table.read_row_group(group).slice(0, 1).to_pylist()


def assigned_rows(run: RunDir, column: str, first: str, last: str) -> list[dict[str, Any]]:
    """key, shard, source and the image's position in its tar, of the packed samples from one key to another."""
    with run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
        columns = ["key", "shard", "source", "jpg"]
        rows = pq.read_table(stream, columns=columns, filters=[("key", ">=", first), ("key", "<=", last)])
    return rows.sort_by("key").to_pylist()


def assign_samples(rows: list[dict[str, Any]], per_shard: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows by shard `<split>-<n>`: each split in the order of hash(seed, key), in shards as even as can be."""
    shuffled = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row['key']}".encode()).digest())
    shards: dict[str, list[dict[str, Any]]] = {}
    for split in sorted({row["split"] for row in rows}):
        members = [row for row in shuffled if row["split"] == split]
        count = -(-len(members) // per_shard)
        for number in range(count):
            part = members[number * len(members) // count : (number + 1) * len(members) // count]
            shards[f"{split}-{number:06d}"] = [{**row, "shard": f"{split}-{number:06d}"} for row in part]
    return shards
