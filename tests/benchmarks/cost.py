"""What `dap plan --nodes` foretells of a small run, by a probe and by the table of rates, beside the run itself."""

import io
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from dap_engine.jobs.__main__ import main
from tests.benchmarks.material import footage
from tests.benchmarks.measure import Result

VIDEOS = 24
RECIPE = """
executor: in-process
videos: videos
steps:
  simulate: {step: simulate, source_name: rooms, panoramas: 96, height: 256, panoramas_per_shard: 8}
  plan: {step: plan, videos: "${videos}", videos_per_shard: 2}
  extract: {step: extract, height: 256, every_s: 0.25, near_duplicate_bits: null, min_sharpness: 0}
  tag: {step: tag}
  label: {step: label}
"""


def benchmark(repeats: int) -> Iterator[Result]:
    """A run in one process; measured once, since a second one would find it done."""
    with TemporaryDirectory() as folder:
        recipe, videos = Path(folder) / "small.yaml", Path(folder) / "videos"
        recipe.write_text(RECIPE)
        videos.mkdir()
        for number in range(VIDEOS):
            shutil.copy(footage(512), videos / f"{number}.mp4")
        job = [str(recipe), "--run-dir", f"{folder}/run", "--set", f"videos={videos}"]
        foretold = {
            "a probe": _foretold_s(*job, "--probe"),
            "the table of rates": _foretold_s(*job),
        }
        started_s = time.perf_counter()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            if main(["run", *job]):
                raise RuntimeError("the run did not end well")
        run_s = time.perf_counter() - started_s
    for by, foretold_s in foretold.items():
        yield Result(
            f"forecast of a small run by {by}",
            "the run, in one process",
            f"{foretold_s / run_s:.2f}",
            "0.7 to 1.3",
            f"{foretold_s:.0f} s against {run_s:.0f} s",
        )


def _foretold_s(*job: str) -> float:
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(io.StringIO()):
        if main(["plan", *job, "--nodes", "1x(2 CPU)", "--json"]):
            raise RuntimeError("no forecast")
    return json.loads(said.getvalue())["cost"]["total"]["wall_s"]
