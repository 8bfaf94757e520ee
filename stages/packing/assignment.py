"""The assignment of a packed column: which sample is in which training shard, and where its parts come from."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...engine.records.tar import HEADER_BYTES
from ...engine.rundir.rundir import RunDir
from .shuffle import Shuffle
from .sources import PARTS, Origin, all_rows

# Outputs of a packed column beside its shards. In a run directory the assignment is called `deal`: deal.parquet.
ASSIGNMENT, SAMPLES, INDEX = "deal", "samples", "index"
BESIDE = (ASSIGNMENT, SAMPLES, INDEX)

_PART = pa.struct([("path", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64())])
_SCHEMA = pa.schema(
    [("key", pa.string()), ("shard", pa.string()), ("source", pa.string()), *[(part, _PART) for part in PARTS]]
)


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


def shard_groups(table: pq.ParquetFile) -> dict[str, int]:
    """The row group of every training shard, by the shard's name, in their order."""
    names = (table.metadata.row_group(group).column(1).statistics.min for group in range(table.num_row_groups))
    return {name: group for group, name in enumerate(names)}


def make_assignment(
    run: RunDir,
    origins: Sequence[Origin],
    path: Path,
    *,
    splits: Sequence[str],
    per_shard: int,
    bytes_per_shard: int | None = None,
    seed: int,
) -> tuple[int, int]:
    """Writes the assignment of all samples of some shards; returns how many there are, and how many are assigned.

    Training shards hold `per_shard` samples at most or, if it is given, about `bytes_per_shard`.
    Works in the folder of `path`, in memory that does not grow. Raises RepeatedKeyError.
    """
    shuffle = Shuffle(path.parent, seed)
    for rows in all_rows(run, iter(origins)):
        shuffle.add(rows)
    return shuffle.rows, _write(path, assigned(shuffle, splits, per_shard, bytes_per_shard), origins)


def assigned(
    shuffle: Shuffle, splits: Sequence[str], per_shard: int, bytes_per_shard: int | None = None
) -> Iterator[tuple[str, pa.Table]]:
    """Rows by shard `<split>-<n>`: each split in the order of the shuffle, in shards of as even counts as can be."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for table in shuffle.tables():
        counts.update({row["values"]: row["counts"] for row in table["split"].value_counts().to_pylist()})
        if bytes_per_shard:
            measured = pa.table({"split": table["split"], "bytes": _tar_bytes(table)})
            by_split = measured.group_by("split").aggregate([("bytes", "sum")])
            sizes.update({row["split"]: row["bytes_sum"] for row in by_split.to_pylist()})
    for split in sorted(counts.keys() & set(splits)):
        samples, waiting, number, given = counts[split], [], 0, 0
        shards = min(samples, -(-sizes[split] // bytes_per_shard)) if bytes_per_shard else -(-samples // per_shard)
        for table in shuffle.tables():
            waiting = [pa.concat_tables([*waiting, table.filter(pc.equal(table["split"], split))])]
            while number < shards and len(waiting[0]) >= (size := (number + 1) * samples // shards - given):
                yield f"{split}-{number:06d}", waiting[0].slice(0, size)
                waiting, number, given = [waiting[0].slice(size)], number + 1, given + size


def _tar_bytes(rows: pa.Table) -> np.ndarray:
    """Bytes that each sample takes in a tar, about: its members, each with a header, in blocks of a header's size."""
    total = np.zeros(len(rows), np.int64)
    for part in PARTS:
        held = pc.fill_null(pc.struct_field(rows[part], "bytes"), 0).to_numpy()
        total += -(-held // HEADER_BYTES) * HEADER_BYTES + HEADER_BYTES * (held > 0)
    return total


def _write(path: Path, shards: Iterator[tuple[str, pa.Table]], origins: Sequence[Origin]) -> int:
    """Writes a row group a shard; returns the number of samples."""
    sources, samples = pa.array([origin.source for origin in origins], pa.string()), 0
    paths = {part: pa.array([origin.path(part) for origin in origins], pa.string()) for part in PARTS}
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for shard, rows in shards:
            rows, samples = rows.combine_chunks(), samples + len(rows)
            number = rows["origin"]
            parts = [_part(paths[part].take(number), rows[part]) for part in PARTS]
            names = pa.repeat(pa.scalar(shard), len(rows))
            table = pa.table([rows["key"], names, sources.take(number), *parts], schema=_SCHEMA)
            writer.write_table(table, row_group_size=len(table))
    return samples


def _part(paths: pa.ChunkedArray, places: pa.ChunkedArray) -> pa.Array:
    path, place = paths.combine_chunks(), places.combine_chunks()
    return pa.StructArray.from_arrays([path, *place.flatten()], fields=list(_PART), mask=place.is_null())
