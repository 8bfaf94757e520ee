"""Trivial steps for tests of the engine: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from dap_engine.engine.records.column import Column, ParquetColumn, TarColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.steps.barrier import Barrier, BarrierContext
from dap_engine.engine.steps.step import SourceStage, Stage


@dataclass
class Count(SourceStage):
    """Shards of numbers 0, 1, 2, …"""

    name = "count"
    total_shards: int = 3
    per_shard: int = 4
    log: str = ""  # a file that gets a line for every shard made

    @property
    def writes(self) -> Column:
        return TarColumn("numbers", ("txt", "json"))

    def shards(self) -> Sequence[str]:
        return [f"{i:04d}" for i in range(self.total_shards)]

    def source(self, shard: str) -> Iterator[Sample]:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"count {shard}\n")
        first = int(shard) * self.per_shard
        return (Sample(f"n{i:06d}", {}) for i in range(first, first + self.per_shard))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            number = int(sample.key[1:])
            yield Row(sample.key, {"txt": str(number).encode(), "json": {"number": number}})


@dataclass
class Times(Stage):
    """Multiplies; drops multiples of `drop_every`; raises at each of `raise_at`."""

    name = "times"
    factor: int = 2
    drop_every: int = 0
    raise_at: list[int] = field(default_factory=list)
    batch_size: int = 3
    log: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return ("numbers",)

    @property
    def writes(self) -> Column:
        return ParquetColumn("products", pa.schema([("product", pa.int64())]))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"times {batch[0].key}\n")
        for sample in batch:
            number = sample["numbers"]["json"]["number"]
            if number in self.raise_at:
                raise RuntimeError(f"cannot multiply {number}")
            if self.drop_every and number % self.drop_every == 0:
                yield Drop(sample.key, "multiple", f"{number} is one")
            else:
                yield Row(sample.key, {"product": number * self.factor})


@dataclass
class Add(Stage):
    """Joins two columns."""

    name = "add"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("numbers", "products")

    @property
    def writes(self) -> Column:
        return ParquetColumn("sums", pa.schema([("sum", pa.int64())]))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            yield Row(sample.key, {"sum": int(sample["numbers"]["txt"]) + sample["products"]["product"]})


@dataclass
class Total(Barrier):
    """Adds everything up into one file."""

    name = "total"
    bonus: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sums",)

    @property
    def writes(self) -> Column:
        return ParquetColumn("total", pa.schema([("total", pa.int64())]))

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return ["all"]

    def run(self, context: BarrierContext) -> None:
        receipts = context.inputs["sums"].values()
        total = sum(row.fields["sum"] for receipt in receipts for row in context.run.rows(receipt))
        with context.scratch() as scratch:
            writer = self.writes.writer(scratch)
            writer.add(Row("all", {"total": total + self.bonus}))
            context.commit("all", writer.finish(), len(receipts), 1)


STEPS = {"count": Count, "times": Times, "add": Add, "total": Total}

RECIPE = """
name: arithmetic
executor: in-process
steps:
  count: {step: count}
  times: {step: times}
  add: {step: add}
  total: {step: total}
"""
