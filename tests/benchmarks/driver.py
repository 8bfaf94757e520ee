"""Does the driver grow while a run goes on? Trivial shards through three stages: some on Ray, many simulated."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from dap_engine.engine.execution.executor import Executor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import Node, load_recipe
from dap_engine.engine.rundir.receipts import Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.limits import Pool
from dap_engine.engine.steps.outcome import Outcome
from tests.benchmarks.measure import Result
from tests.benchmarks.simulated import pretend_stage
from tests.engine.napping import command
from tests.engine.steps import RECIPE, STEPS

SHARDS, SIMULATED_SHARDS = 2_000, 100_000
LOOK_EVERY_S = 1.0
PARTS = (0.1, 0.5, 1.0)  # of all receipts
STAGES = ("count", "times", "add")
COLUMNS = ("numbers", "products", "sums")

Looks = dict[int, float]  # resident MiB by receipts


def benchmark(_: int) -> Iterator[Result]:
    """Measured once, by the system's count of the driver's resident memory."""
    with TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        looks = _on_ray(folder)
        rate = len(STAGES) * SHARDS / (time.perf_counter() - started_s)
    yield _result(f"driver of a run on Ray, {SHARDS:,} trivial shards", looks, f"{rate:.0f} receipts/s with start-up")
    with TemporaryDirectory() as folder, get_context("spawn").Pool(1) as process:
        looks = process.apply(_simulated, (folder,))
    yield _result(f"driver of a simulated run, {SIMULATED_SHARDS:,} shards", looks, "receipts written by the driver")


def _result(what: str, looks: Looks, remark: str) -> Result:
    most = max(looks)
    part_mib = [next(mib for receipts, mib in looks.items() if receipts >= part * most) for part in PARTS]
    figures = " / ".join(f"{mib:.0f}" for mib in part_mib)
    return Result(
        f"{what} through three stages: memory at its end",
        f"memory after {100 * PARTS[0]:.0f} % of the receipts",
        f"{part_mib[-1] / part_mib[0]:.2f}",
        "≤ 1.1",
        f"{figures} MiB after {' / '.join(f'{100 * part:.0f}' for part in PARTS)} % of them; {remark}",
    )


def _on_ray(folder: str) -> Looks:
    with subprocess.Popen(command(folder, f"count.total_shards={SHARDS}")) as driver:
        looks: Looks = {}
        while driver.poll() is None:
            if resident := _resident_bytes(driver.pid):
                looks[_receipts(folder)] = resident / 2**20
            time.sleep(LOOK_EVERY_S)
    if driver.returncode:
        raise RuntimeError(f"the run ended with {driver.returncode}")
    return looks


def _receipts(folder: str) -> int:
    columns = (Path(folder, "receipts", name) for name in COLUMNS)
    return sum(len(os.listdir(column)) for column in columns if column.exists())


class _Pretending(Executor):
    """Leaves the outputs and receipts that workers would leave, and looks at the memory of this process meanwhile."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.looks: Looks = {}
        self._nodes = {node.name: node for node in nodes}

    def run_chain(self, chain: Sequence[StageSpec], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        done = 0
        for shard in shards:
            receipts = dict[str, Receipt]()
            for spec in chain:
                node = self._nodes[spec.node]
                receipts[spec.column] = pretend_stage(run, node, {}, receipts, shard)
                yield Outcome(spec.node, spec.column, shard, "done", samples_in=1, samples_out=1)
            done += len(chain)
            if done % 1000 < len(chain) or shard == shards[-1]:
                self.looks[done] = _resident_bytes(os.getpid()) / 2**20

    def check(self, pools: Mapping[str, Pool]) -> None:
        """All the room there could be."""

    def close(self) -> None:
        """Nothing is held."""


def _simulated(folder: str) -> Looks:
    graph = build_graph(load_recipe(RECIPE, STEPS, [f"count.total_shards={SIMULATED_SHARDS}"]).nodes)
    executor, unseen = _Pretending(graph.nodes), Progress(Console(file=StringIO()), every_s=3600)
    result = Runner(graph, RunDir(folder), lambda: executor, unseen).run(graph.select(only=STAGES))
    if result.worked != len(STAGES) * SIMULATED_SHARDS:
        raise RuntimeError(f"{result.worked} shards were done")
    return executor.looks


def _resident_bytes(pid: int) -> int:
    """0 once the process has ended."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
