"""Extract, tag and label as one chain on Ray, against the three one after another."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.steps.limits import Pool
from dap_engine.engine.steps.step import Step
from dap_engine.stages.extract import Extract
from dap_engine.stages.label import Label
from dap_engine.stages.plan import Plan
from dap_engine.stages.tag import Tag
from tests.benchmarks.material import finished_run, footage
from tests.benchmarks.measure import Result, paired

VIDEOS = 48
HEIGHT = 256
POOLS = {"extract": Pool(num_cpus=1.0), "tag": Pool(num_cpus=0.5), "label": Pool(num_cpus=0.5)}


def benchmark(repeats: int) -> Iterator[Result]:
    """A shard a video; the workers' start-up counts on both sides, once for the chain and once a stage without it."""
    with TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for number in range(VIDEOS):
            shutil.copy(footage(HEIGHT), videos / f"{number}.mp4")
        extract = Extract(every_s=0.25, height=HEIGHT, near_duplicate_bits=None)  # it is one panorama, turned
        steps = (Plan(str(videos), 1), extract, Tag(), Label())
        executor, overlaps = RayExecutor(num_cpus=2), list[float]()
        try:
            chained = lambda: _run(executor, folder, steps, 3, overlaps)  # noqa: E731
            pair = paired(chained, lambda: _run(executor, folder, steps, 1, []), repeats)
        finally:
            executor.close()
    yield Result(
        f"extract → tag → label as one chain on Ray, {VIDEOS} videos on 2 cores",
        "the same three stages one after another",
        f"{pair.rate:.2f}",
        "≥ 1",
        f"{pair.work_s:.1f} s against {pair.against_s:.1f} s; the first shard was labelled when"
        f" {100 * min(overlaps):.0f} % of the time of extraction had passed",
    )


def _run(executor: RayExecutor, folder: str, steps: Sequence[Step], together: int, overlaps: list[float]) -> float:
    """Seconds that the map stages take, `together` of them in a chain; notes when labels begin to come."""
    with TemporaryDirectory(dir=folder) as place:
        run = finished_run(Path(place), steps[0])
        nodes = [Node(step.name, step, POOLS.get(step.name, Pool())) for step in steps]
        planner = Planner(build_graph(nodes), run)
        chain = [StageSpec.of(node, planner.assets(node) or {}) for node in nodes[1:]]
        shards, started_s = list(run.receipts("plan")), time.perf_counter()
        times_s: dict[str, list[float]] = {node.name: [] for node in nodes}
        for first in range(0, len(chain), together):
            for outcome in executor.run_chain(chain[first : first + together], shards, run):
                if outcome.status != "done":
                    raise RuntimeError(f"{outcome.node} {outcome.shard}: {outcome.status} {outcome.error}")
                times_s[outcome.node].append(time.perf_counter() - started_s)
        overlaps.append(min(times_s["label"]) / max(times_s["extract"]))
        return time.perf_counter() - started_s
