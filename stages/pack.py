"""Packs samples of several sources into globally shuffled training shards.

First the assignment, a table: which sample goes to which shard, and where its parts lie in the shards that they come
from. Then the training shards, each of which reads just those parts. Last the table of all samples and where they lie
in the training shards, and an index with exact counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from ..engine.records.column import Column, TarColumn
from ..engine.rundir.receipts import Receipt
from ..engine.steps.barrier import Barrier, BarrierContext, BarrierError
from .batches.panoramas import names_of
from .packing.assignment import ASSIGNMENT, BESIDE, INDEX, SAMPLES, make_assignment, shard_groups
from .packing.index import read_index
from .packing.shard import PackShard
from .packing.shuffle import RepeatedKeyError
from .packing.sources import Source, origins


@dataclass
class Pack(Barrier):
    """Sources to `train-<train>`: KEY.jpg, KEY.depth.png and KEY.json in shards `<split>-<n>.tar`, and `index.json`."""

    name: ClassVar[str] = "pack"

    train: str
    sources: list[Source] = field(default_factory=list)
    samples_per_shard: int = 1000
    bytes_per_shard: int | None = None  # about so many, in place of samples_per_shard
    splits: list[str] = field(default_factory=lambda: ["train", "val"])
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources or self.samples_per_shard < 1 or (self.bytes_per_shard or 1) < 1:
            raise ValueError("pack needs sources, and at least one sample and one byte a shard")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for source in self.sources for column in source.columns))

    @property
    def joins(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        sources = [(names_of(source.images), (source.labels, source.selection)) for source in self.sources]
        return [(images, (column,)) for images, columns in sources for column in columns if column]

    @property
    def writes(self) -> Column:
        return TarColumn(f"train-{self.train}", ("depth.png", "jpg", "json"), shuffled=True)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if (name, value) != ("bytes_per_shard", None)}

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [*BESIDE, *self._lost(context)]

    def run(self, context: BarrierContext) -> None:
        if not context.is_current(ASSIGNMENT):
            self._write_assignment(context)
        receipt = context.run.receipt(self.writes.name, ASSIGNMENT)
        assert receipt is not None  # just written, or current
        with context.run.storage.open(receipt.output.path) as stream:
            shards = sorted(shard_groups(pq.ParquetFile(stream)))
        context.map_stage(PackShard(self.writes.name, receipt.output.path, receipt.output.sha256), shards)
        context.keep_only([*BESIDE, *shards])
        self._write_index(context, shards)

    def _lost(self, context: BarrierContext) -> list[str]:
        """Shards that the index names and that have no receipt any more."""
        there = context.run.receipts(self.writes.name)
        if INDEX not in there:
            return []
        names = (entry["name"] for entry in read_index(context.run.storage, self.writes.name))
        return [shard for name in names if (shard := name.removesuffix(".tar")) not in there]

    def _write_assignment(self, context: BarrierContext) -> None:
        parts = [origin for source in self.sources for origin in origins(context.inputs, source)]
        with context.scratch() as scratch:
            path = scratch / f"{ASSIGNMENT}.parquet"
            try:
                samples, assigned = make_assignment(
                    context.run,
                    parts,
                    path,
                    splits=self.splits,
                    per_shard=self.samples_per_shard,
                    bytes_per_shard=self.bytes_per_shard,
                    seed=self.seed,
                )
            except RepeatedKeyError as error:
                one, other = (parts[number].source for number in error.rows["origin"].to_pylist())
                key = error.rows["key"][0].as_py()
                raise BarrierError(f"sample {key!r} comes from {one} and from {other}") from error
            if not assigned:
                raise BarrierError(f"nothing to pack: no sample of the splits {self.splits} in {list(self.reads)}")
            context.commit(ASSIGNMENT, path, samples, assigned)

    def _write_index(self, context: BarrierContext, shards: Sequence[str]) -> None:
        """The table of samples, then the index: who finds the index finds all that it is about."""
        from .packing.samples import write_samples

        receipts = [receipt for shard in shards if (receipt := context.run.receipt(self.writes.name, shard))]
        entries = [_index_entry(receipt) for receipt in receipts]
        total = sum(entry["samples"] for entry in entries)
        with context.scratch() as scratch:
            write_samples(scratch / f"{SAMPLES}.parquet", context.run.storage, receipts)
            context.commit(SAMPLES, scratch / f"{SAMPLES}.parquet", total, total)
            (scratch / f"{INDEX}.json").write_text(json.dumps({"shards": entries}, indent=1))
            context.commit(INDEX, scratch / f"{INDEX}.json", total, total)


def _index_entry(receipt: Receipt) -> dict[str, Any]:
    name = Path(receipt.output.path).name
    split, output = receipt.shard.rsplit("-", 1)[0], receipt.output
    counts = {"samples": receipt.samples_out, "sha256": output.sha256, "bytes": output.bytes}
    return {"name": name, "split": split, **counts}
