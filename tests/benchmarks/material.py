"""What the benchmarks work on: simulated footage, kept in the system's temporary folder, and small runs over it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.run_shard import run_shard
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.rundir.receipts import Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.fingerprint import basis_of
from dap_engine.engine.steps.step import Stage, StageContext, Step
from dap_engine.models.data.images import resize_rgb
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from dap_engine.models.simulator.rendering.video import CRF, encode_h264

CACHE = Path(tempfile.gettempdir()) / "dap-benchmarks"
SHARD = "000000"
FPS, SECONDS = 24, 6
RENDERED_HEIGHT = 960


def footage(height: int) -> Path:
    """An H.264 video of (height, 2 * height), a key frame every 2 s: one simulated panorama while the camera turns."""
    path = CACHE / f"turning-{height}.mp4"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(_turning_video(height))
        partial.replace(path)
    return path


def _turning_video(height: int) -> bytes:
    (panorama,) = labelled_panoramas(0, 1, "field", RENDERED_HEIGHT)
    rgb = resize_rgb(panorama.rgb, height, 2 * height)
    pictures = (np.roll(rgb, number * height // 128, axis=1) for number in range(FPS * SECONDS))
    return encode_h264(pictures, height, FPS, CRF["field"])


def finished_run(folder: Path, *steps: Step) -> RunDir:
    """A run directory in which the steps are done, in process."""
    graph, run = build_graph([Node(step.name, step) for step in steps]), RunDir(str(folder))
    result = Runner(graph, run, InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)
    if result.unfinished:
        raise RuntimeError(f"cannot prepare {folder}: {result.unfinished[0].error}")
    return run


@contextmanager
def shard_work(stage: Stage, run: RunDir, assets: dict[str, str]) -> Iterator[Callable[[], Receipt]]:
    """Does the first shard of the run anew at every call; the stage is set up once."""
    inputs = {column: run.receipts(column)[SHARD] for column in stage.reads}
    basis = basis_of(stage, {}, {column: receipt.output.sha256 for column, receipt in inputs.items()})
    stage.setup(StageContext(run.storage, assets))
    try:
        yield lambda: run_shard(stage, run, SHARD, basis=basis, inputs=inputs)
    finally:
        stage.teardown()
