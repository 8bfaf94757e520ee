"""What is left to do of a finished run. Its frame shards are not there: the receipts have to say it all."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from engine.executor import Executor
from engine.graph import Graph, build_graph
from engine.plan import Planner
from engine.progress import Progress
from engine.receipts import Basis, Receipt
from engine.recipe import Node
from engine.rundir import RunDir
from engine.runner import Runner
from engine.shard import MapStep
from engine.stage import Row
from engine.storage import Output
from stages.extract import Extract
from stages.footage import find_videos
from stages.plan import Plan
from tests.benchmarks.measure import Result, timed

SHARDS = 10_000


def benchmark(repeats: int) -> Iterator[Result]:
    """The decision of one map stage, and all that a rerun of `dap run` does on a plan and its map stage."""
    with TemporaryDirectory() as folder:
        videos, run = Path(folder) / "videos.txt", RunDir(f"{folder}/run")
        videos.write_text("".join(f"{number:06d}.mp4\n" for number in range(SHARDS)))
        _finish(run, videos)
        stage_s = median(timed(lambda: _decide(_graph(videos), run))() for _ in range(repeats))
        run_s = timed(lambda: _rerun(_graph(videos), run))()
    yield _result("the decision on a map stage", stage_s, "receipts of two columns, read and compared once")
    yield _result("a rerun of plan and extract", run_s, "the plan's own step included, measured once")


def _result(what: str, seconds: float, how: str) -> Result:
    work = f"resume with {SHARDS:,} shards done of {SHARDS:,}: {what}"
    return Result(work, "—", f"{seconds:.1f} s", "< 5 s", f"{how}; local disk, cached by the system")


def _graph(videos: Path) -> Graph:
    return build_graph([Node("plan", Plan(videos=str(videos), videos_per_shard=1)), Node("extract", Extract())])


def _decide(graph: Graph, run: RunDir) -> None:
    (plan,) = Planner(graph, run).plan(graph.select(only=["extract"]))
    if not plan.done or len(plan.shards or ()) != SHARDS:
        raise RuntimeError(f"{len(plan.pending)} of {len(plan.shards or ())} shards left: {plan.reasons}")


def _rerun(graph: Graph, run: RunDir) -> None:
    result = Runner(graph, run, _no_executor, Progress(Console(quiet=True))).run(graph.nodes)
    if result.worked or result.unfinished:
        raise RuntimeError(f"{result.worked} outputs made, {len(result.unfinished)} unfinished, where all was done")


def _no_executor() -> Executor:
    raise RuntimeError("there is work left where all was done")


def _finish(run: RunDir, videos: Path) -> None:
    """Leaves the plan's tables and all receipts, as a finished run would."""
    plan, extract = _graph(videos).nodes
    planner = Planner(_graph(videos), run)
    plan_basis, assets = planner.barrier_basis(plan), planner.assets(extract)
    assert plan_basis is not None
    assert assets is not None
    for number, video in enumerate(find_videos(str(videos))):
        planned = _receipt("plan", f"{number:06d}", plan_basis, ".parquet")
        _put_plan(run, plan, planned, Row(video.video_id, {"uri": video.uri, "bytes": video.bytes, "split": "train"}))
        _put(run, planned)
        _put(run, _receipt("frames", planned.shard, MapStep(extract, assets).basis({"plan": planned}), ".tar"))


def _receipt(column: str, shard: str, basis: Basis, suffix: str) -> Receipt:
    output = Output(f"{column}/{shard}{suffix}", f"{int(shard):064x}", 1)
    return Receipt(column, shard, basis, output, samples_in=1, samples_out=1)


def _put_plan(run: RunDir, plan: Node, receipt: Receipt, row: Row) -> None:
    path = _place(run, receipt.output.path)
    writer = plan.step.writes.writer(path.parent)
    writer.add(row)
    writer.finish().rename(path)


def _put(run: RunDir, receipt: Receipt) -> None:
    _place(run, f"receipts/{receipt.column}/{receipt.shard}.json").write_bytes(receipt.to_bytes())


def _place(run: RunDir, path: str) -> Path:
    """The local path of an object; written to without the engine's flushes, which take their time."""
    place = Path(run.storage.locate(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
