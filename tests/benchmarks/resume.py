"""What is left to do of a finished run: decided from the receipts."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from engine.assets import Asset
from engine.graph import Graph, build_graph
from engine.plan import Planner
from engine.receipts import Basis, Receipt
from engine.recipe import Node
from engine.rundir import RunDir
from engine.shard import MapStep
from engine.storage import Output
from stages.extract import Extract
from stages.plan import Plan
from tests.benchmarks.measure import Result, timed

SHARDS = 10_000


def benchmark(repeats: int) -> Iterator[Result]:
    """The shards themselves are not there, so that opening one would fail."""
    graph = build_graph([Node("plan", Plan(videos="/nowhere")), Node("extract", Extract())])
    with TemporaryDirectory() as folder:
        run = RunDir(folder)
        _write_receipts(run, graph)
        seconds = median(timed(lambda: _decide(graph, run))() for _ in range(repeats))
    yield Result(
        f"resume, {SHARDS:,} shards of extract done of {SHARDS:,}",
        "",
        f"{seconds:.1f} s",
        "< 5 s, no shard opened",
        f"{2 * SHARDS / seconds:,.0f} receipts/s of two columns, local disk, no shard there to open",
    )


def _decide(graph: Graph, run: RunDir) -> None:
    (plan,) = Planner(graph, run).plan(graph.select(only=["extract"]))
    if not plan.done or len(plan.shards or ()) != SHARDS:
        raise RuntimeError(f"{len(plan.pending)} of {len(plan.shards or ())} shards left: {plan.reasons}")


def _write_receipts(run: RunDir, graph: Graph) -> None:
    (extract,) = graph.select(only=["extract"])
    step = MapStep(extract, {name: Asset(uri, "") for name, uri in extract.step.assets().items()})
    for number in range(SHARDS):
        planned = _receipt("plan", f"{number:06d}", Basis("plan", 1, {}, {}, {}, {}))
        _put(run, planned)
        _put(run, _receipt("frames", planned.shard, step.basis({"plan": planned})))


def _receipt(column: str, shard: str, basis: Basis) -> Receipt:
    output = Output(f"{column}/{shard}", f"{int(shard):064x}", 1)
    return Receipt(column, shard, basis, output, samples_in=1, samples_out=1)


def _put(run: RunDir, receipt: Receipt) -> None:
    """Without the engine's flushes to disk, which make a receipt last and take their time."""
    path = Path(run.storage.locate(f"receipts/{receipt.column}/{receipt.shard}.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(receipt.to_bytes())
