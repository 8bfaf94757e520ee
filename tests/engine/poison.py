"""A stage that numbers can raise in, hang, kill and bloat, and that is told from outside when to stop doing so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from dap_engine.engine.execution.executor import Executor, InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.execution.runner import Runner, RunResult
from dap_engine.engine.execution.supervisor import Supervisor
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.records.column import Column, ParquetColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.drops import read_drops
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.outcome import Outcome
from dap_engine.engine.steps.step import PipelinedStage, Stage, StageContext
from tests.engine.steps import Add, Count, Total


@dataclass
class Poison(Stage):
    """Doubles numbers; those listed do harm unless the file `cure` exists. `log` gets a line for every batch."""

    name = "poison"
    raises: list[int] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    bloats: list[int] = field(default_factory=list)
    cure: str = ""
    once: bool = False  # the first death leaves the cure behind
    log: str = ""
    weights: str = ""  # a file to read at set-up
    batch_size: int = 4

    @property
    def reads(self) -> tuple[str, ...]:
        return ("numbers",)

    @property
    def writes(self) -> Column:
        return ParquetColumn("products", pa.schema([("product", pa.int64()), ("batch", pa.int64())]))

    def settings(self) -> dict[str, object]:
        return {}  # the harm comes from outside: a cure changes nothing that was asked for

    def setup(self, context: StageContext) -> None:
        if self.weights:
            Path(self.weights).read_bytes()

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        numbers = [sample["numbers"]["json"]["number"] for sample in batch]
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(" ".join(map(str, numbers)) + "\n")
        for sample, number in zip(batch, numbers, strict=True):
            if not (self.cure and Path(self.cure).exists()):
                self.harm(number)
            yield Row(sample.key, {"product": 2 * number, "batch": len(batch)})

    def harm(self, number: int) -> None:
        if number in self.raises:
            raise RuntimeError(f"cannot double {number}")
        if number in self.hangs:
            time.sleep(3600)
        if number in self.kills:
            if self.once:
                Path(self.cure).touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if number in self.bloats:
            hoard = [bytearray(64 << 20) for _ in range(40)]
            time.sleep(3600)
            del hoard


@dataclass
class PoisonedPart(PipelinedStage, Poison):
    """The same numbers, and their harm, in one of the parts of a pipelined stage."""

    part: Literal["decode", "predict", "encode"] = "predict"

    def decode(self, sample: Sample) -> int:
        number = sample["numbers"]["json"]["number"]
        self._do("decode", [number])
        return number

    def predict(self, decoded: list[int]) -> list[tuple[int, int]]:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(" ".join(map(str, decoded)) + "\n")
        self._do("predict", decoded)
        return [(number, len(decoded)) for number in decoded]

    def encode(self, sample: Sample, result: tuple[int, int]) -> Row | Drop:
        number, size = result
        self._do("encode", [number])
        return Row(sample.key, {"product": 2 * number, "batch": size})

    def _do(self, part: str, numbers: list[int]) -> None:
        if part == self.part and not (self.cure and Path(self.cure).exists()):
            for number in numbers:
                self.harm(number)


@dataclass
class WholePoison(Poison):
    """The same, of which no batch is split."""

    whole_batches = True


STEPS = {
    "count": Count,
    "poison": Poison,
    "whole-poison": WholePoison,
    "poisoned-part": PoisonedPart,
    "add": Add,
    "total": Total,
}

RECIPE = """
name: poison
executor: in-process
steps:
  count: {step: count, total_shards: 2, per_shard: 8}
  poison: {step: poison, limits: {sample_s: 1.0}, pool: {num_cpus: 0.5, memory_gib: 1.5}}
  add: {step: add, pool: {num_cpus: 0.5}}
  total: {step: total}
"""


def run(
    place: str, *overrides: str, recipe: str = RECIPE, executor: Callable[[], Executor] = InProcessExecutor
) -> RunResult:
    """Runs a recipe of these steps."""
    graph = build_graph(load_recipe(recipe, STEPS, overrides).nodes)
    return Runner(graph, RunDir(place), executor, Progress()).run(graph.nodes)


def supervised(place: str, *overrides: str, recipe: str = RECIPE) -> Outcome:
    """What a worker makes of the first shard, whose numbers are there."""
    graph, directory = build_graph(load_recipe(recipe, STEPS, overrides).nodes), RunDir(place)
    Runner(graph, directory, InProcessExecutor, Progress()).run(graph.select(only=["count"]))
    (node,) = graph.select(only=["poison"])
    supervisor = Supervisor(StageSpec.of(node), directory)
    try:
        return supervisor.run("0000")
    finally:
        supervisor.close()


def batch_sizes(place: str) -> dict[int, int]:
    """The size of the batch of every number that came through."""
    directory = RunDir(place)
    return {
        row.fields["product"] // 2: row.fields["batch"]
        for receipt in directory.receipts("products").values()
        for row in directory.rows(receipt)
    }


def drops(place: str) -> list[Drop]:
    """All drops of the stage."""
    directory = RunDir(place)
    return [drop for receipt in directory.receipts("products").values() for drop in read_drops(directory, receipt)]
