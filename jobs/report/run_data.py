"""What a report shows of a run, read once, by the engine's own readers.

Counts and distributions are of all samples. Pictures, and what is said of single samples, are of some shards, evenly
spread, if a run has more frames than a report can show.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import field as pa_field

from ...engine.records.sample import Drop, Row
from ...engine.rundir.drops import read_drops
from ...engine.rundir.lineage import find_rows
from ...engine.rundir.members import read_members
from ...engine.rundir.receipt_table import Receipts
from ...engine.rundir.receipts import Receipt
from ...engine.rundir.rundir import RunDir
from ...stages.packing.assignment import ASSIGNMENT

MOST_FRAMES = 10_000
_AFTER_ALL_KEYS = "\x7f"


@dataclass(frozen=True)
class Dropped:
    """A drop, and the shard of the column that dropped it."""

    receipt: Receipt
    drop: Drop


class RunData:
    """The columns of a run. `shards` are those whose frames are shown, `most_frames` of them at most."""

    def __init__(self, run: RunDir, most_frames: int = MOST_FRAMES) -> None:
        self.run = run
        self.columns: dict[str, Receipts] = _in_order({name: run.receipts(name) for name in run.columns()})
        self.image_columns = _image_columns(self.columns)
        self.image_shards = {shard: one for name in self.image_columns for shard, one in self.columns[name].items()}
        self.shards = _spread(self.image_shards, most_frames)

    def column(self, name: str) -> Mapping[str, Receipt]:
        """The receipts of a column by shard; empty if the run does not have it."""
        return self.columns.get(name, {})

    def named(self, prefix: str) -> list[str]:
        """The columns whose names begin so, as `labels-`."""
        return [name for name in self.columns if name.startswith(prefix)]

    def settings(self, column: str) -> dict[str, Any]:
        """The settings of the step that made a column; empty if nothing did."""
        return next((receipt.basis.settings for receipt in self.column(column).values()), {})

    def frames(self, shard: str) -> Iterator[Row]:
        """The frames of a shard with their pictures, in the order of their keys."""
        return self.run.rows(self.image_shards[shard])

    def video_of(self, shard: str, key: str) -> str:
        """The video of a frame, or that is dropped under a key; of panoramas that come from none, their shard."""
        if self.image_shards[shard].column != "frames":
            return shard
        return key if key in self.videos else key.rpartition("-")[0]

    @cached_property
    def videos(self) -> dict[str, dict[str, Any]]:
        """The planned videos of the shards shown, by id, with their `shard`."""
        plan = self.column("plan")
        return {
            row.key: {**row.fields, "shard": shard}
            for shard in (self.shards or list(plan)[:1])
            if shard in plan
            for row in self.run.rows(plan[shard])
        }

    def whole_table(self, column: str) -> pa.Table:
        """A column of tables, whole."""
        tables = [self.run.table(receipt) for receipt in self.column(column).values()]
        return pa.concat_tables(tables, promote_options="default")  # a shard of a plan may have more columns

    def rows(self, column: str) -> dict[str, dict[str, Any]]:
        """What a column says of the samples shown, by key: fields of a table, or the JSON of a tar."""
        receipts = self.column(column)
        return {
            key: {**row.pop("json", {}), **row}
            for shard in self.shards
            if shard in receipts
            for key, row in find_rows(self.run, receipts[shard], "", _AFTER_ALL_KEYS)
        }

    def pictures(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The JPEGs of some frames, by key."""
        return self._fields(self.image_shards, "jpg", keys)

    def fields(self, column: str, field: str, keys: Iterable[str]) -> dict[str, bytes]:
        """A field of a tar column for some of the samples, by key; one request each."""
        return self._fields(self.column(column), field, keys)

    def _fields(self, receipts: Mapping[str, Receipt], field: str, keys: Iterable[str]) -> dict[str, bytes]:
        wanted, found = set(keys), {}
        for shard in [shard for shard in self.shards if shard in receipts] or receipts:
            receipt = receipts[shard]
            members = read_members(self.run.storage, receipt, field).select(["key", field])
            for row in members.filter(pa_field("key").isin(list(wanted))).to_pylist():
                place = row[field]
                found[row["key"]] = self.run.storage.read_range(receipt.output.path, place["offset"], place["bytes"])
            wanted -= found.keys()
            if not wanted:
                break
        return found

    def first_rows(self, column: str, count: int) -> list[Row]:
        """The first samples of a tar column, whole."""
        receipt = next(iter(self.column(column).values()), None)
        return [row for row, _ in zip(self.run.rows(receipt), range(count), strict=False)] if receipt else []

    def drops(self, column: str, code: str, most: int) -> list[Dropped]:
        """Some drops of a code, from as few shards as hold them; those of the shards shown come first."""
        found: list[Dropped] = []
        receipts = self.columns[column]
        for shard in [*(shard for shard in self.shards if shard in receipts), *receipts]:
            receipt = receipts[shard]
            if code in receipt.drops and not any(one.receipt.shard == shard for one in found):
                found += [Dropped(receipt, drop) for drop in read_drops(self.run, receipt) if drop.code == code]
            if len(found) >= most:
                break
        return found[:most]

    @cached_property
    def dropped_of_videos(self) -> dict[str, list[Drop]]:
        """The drops of frames in the shards shown, by video, their own ones and those of their frames."""
        found: dict[str, list[Drop]] = {}
        for shard in self.shards:
            for drop in read_drops(self.run, self.image_shards[shard]):
                found.setdefault(self.video_of(shard, drop.key), []).append(drop)
        return found

    def packed(self, keys: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """The packed columns and training shards that hold a sample, by key."""
        found: dict[str, list[tuple[str, str]]] = {}
        for column in self.named("train-"):
            with self.run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
                rows = pq.read_table(stream, columns=["key", "shard"])
            for row in rows.filter(pa_field("key").isin(pa.array(keys, pa.string()))).to_pylist():
                found.setdefault(row["key"], []).append((column, row["shard"]))
        return found

    def packed_frames(self, column: str) -> int:
        """How many samples of a packed column are frames, not labelled panoramas."""
        with self.run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
            paths = pc.struct_field(pq.read_table(stream, columns=["jpg"])["jpg"], "path")
        columns = "|".join(map(re.escape, self.image_columns))
        return pc.sum(pc.match_substring_regex(paths, f"^({columns})/")).as_py() or 0

    def sources(self, column: str) -> dict[str, int]:
        """Samples of a packed column by where they come from."""
        with self.run.storage.open(f"{column}/{ASSIGNMENT}.parquet") as stream:
            counted = pq.read_table(stream, columns=["source"])["source"].value_counts().to_pylist()
        return {row["values"]: row["counts"] for row in counted}


def _image_columns(columns: Mapping[str, Receipts]) -> list[str]:
    """The columns of panoramas without depth: `frames`, and whatever else was tagged or labelled."""
    made = [receipt.basis for receipts in columns.values() for receipt in receipts.values()]
    seen = {column for basis in made if basis.step in ("tag", "label") for column in basis.inputs}
    return [name for name in columns if name == "frames" or name in seen]


def _in_order(columns: dict[str, Receipts]) -> dict[str, Receipts]:
    """Every column after those that it was made from."""
    made_from = {
        name: {column for receipt in receipts.values() for column in receipt.basis.inputs} & columns.keys()
        for name, receipts in columns.items()
    }
    return {name: columns[name] for name in TopologicalSorter(made_from).static_order()}


def _spread(receipts: Mapping[str, Receipt], most: int) -> list[str]:
    """Shards, evenly spread over all, that hold `most` samples at most; at least one."""
    shards = list(receipts)
    samples = sum(receipt.samples_out for receipt in receipts.values())
    count = max(1, len(shards) * most // max(samples, 1))
    return shards if count >= len(shards) else [shards[number * len(shards) // count] for number in range(count)]
