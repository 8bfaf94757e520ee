"""Does the driver's work grow with the number of shards, and no faster? Three trivial stages, simulated."""

import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dap_engine.engine.planning.graph import Graph, build_graph
from dap_engine.engine.planning.plan import NodePlan, Planner
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.planning.status import column_status
from dap_engine.engine.rundir.listing import index_folder
from dap_engine.engine.rundir.receipts import Receipt
from dap_engine.engine.rundir.rundir import RunDir
from tests.benchmarks.measure import Result
from tests.benchmarks.simulated import pretend_stage, write_indices
from tests.engine.steps import RECIPE, STEPS

SIZES = (1_000, 10_000, 100_000)
_COLUMNS = ("numbers", "products", "sums")


@dataclass(frozen=True)
class Cost:
    """What a look at a run took."""

    seconds: float
    peak_mib: float  # of the whole process, Python and its libraries included


def benchmark(_: int) -> Iterator[Result]:
    """Each look at each size, once, in a process of its own."""
    costs = [_costs(shards) for shards in SIZES]
    for what in costs[0]:
        yield _result(what, [cost[what] for cost in costs])


def _result(what: str, costs: list[Cost]) -> Result:
    sizes, ratio = " / ".join(f"{size:,}" for size in SIZES), costs[-1].seconds / costs[-2].seconds
    seconds = " / ".join(f"{cost.seconds:.2f}" for cost in costs)
    peaks = " / ".join(f"{cost.peak_mib:.0f}" for cost in costs)
    per_shard = ratio * SIZES[-2] / SIZES[-1]
    figures = (
        f"{seconds} s for {sizes} shards of three columns; peak of the process {peaks} MiB; local disk, measured once"
    )
    return Result(f"scale: {what}", f"time a shard at {SIZES[-2]:,} shards", f"{per_shard:.2f}", "≤ 1.2", figures)


def _costs(shards: int) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    with TemporaryDirectory() as folder:
        costs["plan, nothing done"] = _in_a_process(_plan, folder, shards, 0)
        _in_a_process(_pretend, folder, shards, 0, shards // 2)
        costs["plan, half done"] = _in_a_process(_plan, folder, shards, shards // 2)
        _in_a_process(_pretend, folder, shards, shards // 2, shards)
        costs["plan, all done"] = _in_a_process(_plan, folder, shards, shards)
        costs["status"] = _in_a_process(_status, folder, shards)
        costs["listing of the run, as verify begins"] = _in_a_process(_list, folder)
        _in_a_process(_without_index, folder)
        costs["plan, all done, every receipt opened for want of an index"] = _in_a_process(
            _plan, folder, shards, shards
        )
    return costs


def _in_a_process(look: Callable[..., float], *arguments: object) -> Cost:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measured, look, *arguments).result()


def _measured(look: Callable[..., float], *arguments: object) -> Cost:
    seconds = look(*arguments)
    (peak_kib,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return Cost(seconds, int(peak_kib) / 1024)


def _graph(shards: int) -> Graph:
    return build_graph(load_recipe(RECIPE, STEPS, [f"count.total_shards={shards}"]).nodes)


def _planned(folder: str, shards: int) -> list[NodePlan]:
    graph = _graph(shards)
    return Planner(graph, RunDir(folder)).plan(graph.select(only=["count", "times", "add"]))


def _plan(folder: str, shards: int, done: int) -> float:
    started = time.perf_counter()
    plans = _planned(folder, shards)
    seconds = time.perf_counter() - started
    if any(len(plan.pending) != shards - done for plan in plans):
        raise RuntimeError(f"{[plan.reasons for plan in plans]} where {done} of {shards} were done")
    return seconds


def _status(folder: str, shards: int) -> float:
    started = time.perf_counter()
    statuses = column_status(RunDir(folder), _planned(folder, shards))
    seconds = time.perf_counter() - started
    if any(status.shards_done != shards for status in statuses.values()):
        raise RuntimeError(f"{statuses} where {shards} were done")
    return seconds


def _list(folder: str) -> float:
    started = time.perf_counter()
    RunDir(folder).storage.list("")
    return time.perf_counter() - started


def _pretend(folder: str, shards: int, first: int, end: int) -> float:
    run, stages = RunDir(folder), _graph(shards).nodes[: len(_COLUMNS)]
    for number in range(first, end):
        shard, receipts = f"{number:04d}", dict[str, Receipt]()
        for node in stages:
            receipts[node.step.produces] = pretend_stage(run, node, {}, receipts, shard)
    write_indices(run, *_COLUMNS)
    return 0.0


def _without_index(folder: str) -> float:
    for column in _COLUMNS:
        RunDir(folder).storage.delete_all(index_folder(column))
    return 0.0
