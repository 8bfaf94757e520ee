"""What is left to do of a finished run of four columns: receipts, their index and listings have to say it all."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from dap_engine.engine.execution.executor import Executor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import Graph, build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.rundir.receipts import Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.stages.extract import Extract
from dap_engine.stages.footage.listing import find_videos
from dap_engine.stages.label import Label
from dap_engine.stages.plan import Plan
from dap_engine.stages.tag import Tag
from tests.benchmarks.measure import Result, timed
from tests.benchmarks.simulated import pretend, pretend_stage, write_indices

SHARDS = 10_000


def benchmark(repeats: int) -> Iterator[Result]:
    """The decision with and without an index, and all that a rerun of `dap run` does."""
    with TemporaryDirectory() as folder:
        videos, run = Path(folder) / "videos.txt", RunDir(f"{folder}/run")
        videos.write_text("".join(f"{number:06d}.mp4\n" for number in range(SHARDS)))
        _finish(run, videos)
        opened_s = timed(lambda: _decide(_graph(videos), run))()
        write_indices(run, *run.columns())
        indexed_s = median(timed(lambda: _decide(_graph(videos), run))() for _ in range(repeats))
        rerun_s = timed(lambda: _rerun(_graph(videos), run))()
    yield _result(
        "the decision", indexed_s, f"plan, extract, tag, label; receipts from their index; median of {repeats}"
    )
    yield _result("the decision without an index", opened_s, "every receipt opened; measured once")
    yield _result("all of a rerun", rerun_s, "with the check of the steps' settings; measured once")


def _result(what: str, seconds: float, how: str) -> Result:
    work = f"resume with {SHARDS:,} shards done of {SHARDS:,}: {what}"
    return Result(work, "—", f"{seconds:.1f} s", "< 5 s", f"{how}; local disk, cached by the system")


def _graph(videos: Path) -> Graph:
    plan = Plan(videos=str(videos), videos_per_shard=1)
    return build_graph([Node("plan", plan), Node("extract", Extract()), Node("tag", Tag()), Node("label", Label())])


def _decide(graph: Graph, run: RunDir) -> None:
    for plan in Planner(graph, run).plan(graph.nodes):
        if not plan.done or len(plan.shards or ()) != SHARDS:
            raise RuntimeError(f"{len(plan.pending)} of {len(plan.shards or ())} shards left: {plan.reasons}")


def _rerun(graph: Graph, run: RunDir) -> None:
    result = Runner(graph, run, _no_executor, Progress(Console(quiet=True))).run(graph.nodes)
    if result.worked or result.unfinished:
        raise RuntimeError(f"{result.worked} outputs made, {len(result.unfinished)} unfinished, where all was done")


def _no_executor() -> Executor:
    raise RuntimeError("there is work left where all was done")


def _finish(run: RunDir, videos: Path) -> None:
    """Leaves what a finished run would. The outputs of stages are a byte each: none of them is opened."""
    graph = _graph(videos)
    plan, *stages = graph.nodes
    planner = Planner(graph, run)
    assets = {node.name: {n: a.sha256 for n, a in (planner.assets(node) or {}).items()} for node in stages}
    basis = planner.barrier_basis(plan)
    assert basis is not None
    for number, video in enumerate(find_videos(str(videos))):
        shard, row = (
            f"{number:06d}",
            {"video_id": video.video_id, "uri": video.uri, "bytes": video.bytes, "split": "val"},
        )
        receipts: dict[str, Receipt] = {"plan": pretend(run, "plan", shard, basis, ".parquet", _table(row))}
        for node in stages:
            receipts[node.step.produces] = pretend_stage(run, node, assets[node.name], receipts, shard)


def _table(row: dict[str, object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row]), sink)
    return sink.getvalue().to_pybytes()
