"""Arithmetic that takes its time, as a command of its own: something to be killed in the middle of."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dap_engine.engine.execution.executor import Executor, InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner, RunResult
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.steps import Add, Count, Times, Total

RECIPE = """
name: napping
executor: ray
steps:
  count: {step: count, total_shards: 8, pool: {num_cpus: 0.5, max_workers: 2}}
  times: {step: times, drop_every: 5, pool: {num_cpus: 0.5, max_workers: 2}}
  add: {step: add, pool: {num_cpus: 0.5, max_workers: 2}}
  total: {step: total}
"""
RECEIPTS = 8 + 8 + 8 + 1


@dataclass
class NappingTimes(Times):
    """Multiplies, after a nap for every batch; `log` gets a line for every batch."""

    nap_s: float = 0.0

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name not in ("nap_s", "log")}

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        time.sleep(self.nap_s)
        return super().process(batch)


STEPS = {"count": Count, "times": NappingTimes, "add": Add, "total": Total}


def command(place: str, *overrides: str) -> list[str]:
    """The command that brings a run directory up to date on Ray."""
    return [sys.executable, "-c", "from tests.engine.napping import main; main()", place, *overrides]


def run(place: str, *overrides: str, in_process: bool = False) -> RunResult:
    """Brings a run directory up to date."""
    graph = build_graph(load_recipe(RECIPE, STEPS, overrides).nodes)
    executor = InProcessExecutor if in_process else _on_ray
    return Runner(graph, RunDir(place), executor, Progress()).run(graph.nodes)


def main() -> None:
    """The command."""
    sys.exit(3 if run(*sys.argv[1:]).unfinished else 0)


def _on_ray() -> Executor:
    from dap_engine.engine.execution.ray_executor import RayExecutor

    return RayExecutor()
