"""Packs samples of several sources into globally shuffled training shards.

First the assignment, a table: which sample goes to which shard, and where its parts lie in the shards that they come
from. Then the training shards, each of which reads just those parts. Last an index with exact counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.records.column import Column, TarColumn
from ..engine.records.tar import index_tar
from ..engine.rundir.receipts import Receipt
from ..engine.rundir.rundir import RunDir
from ..engine.steps.barrier import Barrier, BarrierContext, BarrierError
from .packing.assignment import ASSIGNMENT, INDEX, assign_samples
from .packing.index import read_index
from .packing.shard import PackShard

_PART = pa.struct([("path", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64())])
_PARTS = ("jpg", "depth", "json", "label_json")  # label_json is null where the images bring their own depth
_ASSIGNMENT_SCHEMA = pa.schema(
    [("key", pa.string()), ("shard", pa.string()), ("source", pa.string()), *[(part, _PART) for part in _PARTS]]
)


@dataclass(frozen=True)
class Source:
    """Where samples come from: a column of images with depth, or of images and another of labels, maybe selected."""

    images: str
    labels: str | None = None
    selection: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the source reads."""
        return tuple(column for column in (self.images, self.labels, self.selection) if column)


@dataclass
class Pack(Barrier):
    """Sources to `train-<train>`: KEY.jpg, KEY.depth.png and KEY.json in shards `<split>-<n>.tar`, and `index.json`."""

    name: ClassVar[str] = "pack"

    train: str
    sources: list[Source] = field(default_factory=list)
    samples_per_shard: int = 1000
    splits: list[str] = field(default_factory=lambda: ["train", "val"])
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources or self.samples_per_shard < 1:
            raise ValueError("pack needs sources, and at least one sample a shard")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for source in self.sources for column in source.columns))

    @property
    def writes(self) -> Column:
        return TarColumn(f"train-{self.train}", ("depth.png", "jpg", "json"), shuffled=True)

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [ASSIGNMENT, INDEX, *self._lost(context)]

    def run(self, context: BarrierContext) -> None:
        if not context.is_current(ASSIGNMENT):
            self._write_assignment(context)
        receipt = context.run.receipt(self.writes.name, ASSIGNMENT)
        assert receipt is not None  # just written, or current
        table = pq.ParquetFile(pa.BufferReader(context.run.storage.read_bytes(receipt.output.path)))
        shards = sorted(set(table.read(columns=["shard"])["shard"].to_pylist()))
        context.map_stage(PackShard(self.writes.name, receipt.output.path, receipt.output.sha256), shards)
        context.keep_only([ASSIGNMENT, INDEX, *shards])
        self._write_index(context, shards)

    def _lost(self, context: BarrierContext) -> list[str]:
        """Shards that the index names and that have no receipt any more."""
        there = context.run.receipts(self.writes.name)
        if INDEX not in there:
            return []
        names = (entry["name"] for entry in read_index(context.run.storage, self.writes.name))
        return [shard for name in names if (shard := name.removesuffix(".tar")) not in there]

    def _write_assignment(self, context: BarrierContext) -> None:
        rows = list(_unique(row for source in self.sources for row in _entries(context, source)))
        kept = assign_samples([row for row in rows if row["split"] in self.splits], self.samples_per_shard, self.seed)
        if not kept:
            raise BarrierError(f"nothing to pack: no sample of the splits {self.splits} in {list(self.reads)}")
        with context.scratch() as scratch:
            path = scratch / f"{ASSIGNMENT}.parquet"
            with pq.ParquetWriter(path, _ASSIGNMENT_SCHEMA, compression="zstd") as writer:
                for _, group in sorted(kept.items()):  # a row group a shard
                    writer.write_table(pa.Table.from_pylist(group, schema=_ASSIGNMENT_SCHEMA))
            context.commit(ASSIGNMENT, path, len(rows), sum(map(len, kept.values())))

    def _write_index(self, context: BarrierContext, shards: Sequence[str]) -> None:
        receipts = [context.run.receipt(self.writes.name, shard) for shard in shards]
        entries = [_index_entry(receipt) for receipt in receipts if receipt]
        with context.scratch() as scratch:
            path = scratch / f"{INDEX}.json"
            path.write_text(json.dumps({"shards": entries}, indent=1))
            total = sum(entry["samples"] for entry in entries)
            context.commit(INDEX, path, total, total)


def _entries(context: BarrierContext, source: Source) -> Iterator[dict[str, Any]]:
    """A row for every sample of a source that has all its parts and, if there is a selection, is in it."""
    for shard, receipt in context.inputs[source.images].items():
        images = _scan(context.run, receipt)
        labels = _scan(context.run, context.inputs[source.labels][shard]) if source.labels else images
        keys = images.keys() & labels.keys()
        if source.selection:
            keys &= set(context.run.table(context.inputs[source.selection][shard])["key"].to_pylist())
        for key in sorted(keys):
            yield {
                "key": key,
                "split": images[key]["split"],
                "source": source.labels or source.images,
                "jpg": images[key]["jpg"],
                "depth": labels[key]["depth.png"],
                "json": images[key]["json"],
                "label_json": labels[key]["json"] if source.labels else None,
            }


def _unique(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows as they come; raises BarrierError for a key that two of them have."""
    seen: dict[str, str] = {}
    for row in rows:
        if row["key"] in seen:
            raise BarrierError(f"sample {row['key']!r} comes from {seen[row['key']]} and from {row['source']}")
        seen[row["key"]] = row["source"]
        yield row


def _scan(run: RunDir, receipt: Receipt) -> dict[str, dict[str, Any]]:
    """Where the fields of every sample of a tar shard lie, and the sample's split: its headers and json are read."""
    path, found = receipt.output.path, {}
    with run.storage.open(path) as stream:
        for member in list(index_tar(stream)):
            sample = found.setdefault(member.key, {})
            sample[member.field] = {"path": path, "offset": member.offset, "bytes": member.bytes}
            if member.field == "json":
                stream.seek(member.offset)
                sample["split"] = json.loads(stream.read(member.bytes)).get("split", "train")
    return found


def _index_entry(receipt: Receipt) -> dict[str, Any]:
    name = Path(receipt.output.path).name
    split, output = receipt.shard.rsplit("-", 1)[0], receipt.output
    counts = {"samples": receipt.samples_out, "sha256": output.sha256, "bytes": output.bytes}
    return {"name": name, "split": split, **counts}
