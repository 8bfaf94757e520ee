"""A map stage on Ray, against the same shards in plain processes."""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from dap_engine.engine.execution.executor import Executor, InProcessExecutor
from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.records.column import Column, TarColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.limits import Pool
from dap_engine.engine.steps.step import SourceStage
from tests.benchmarks.measure import Result, paired

WORKERS = 2
SHARDS = [f"{number:06d}" for number in range(3 * WORKERS)]
SHARD_S = 5.0
MEETING = "meeting"  # a folder of the run
MEETING_TIMEOUT_S = 120.0


@dataclass
class Busy(SourceStage):
    """Hashes `rounds` times a shard. Its workers start together, which keeps their start-up out of the measurement."""

    name: ClassVar[str] = "busy"

    rounds: int
    meeting: str  # a folder in which every worker leaves a file when it is ready

    @property
    def writes(self) -> Column:
        return TarColumn("hashes", ("txt",))

    def setup(self, context: object) -> None:
        meeting, deadline_s = Path(self.meeting), time.monotonic() + MEETING_TIMEOUT_S
        (meeting / str(os.getpid())).touch()
        while len(list(meeting.iterdir())) < WORKERS:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"fewer than {WORKERS} workers came")
            time.sleep(0.005)

    def shards(self) -> Sequence[str]:
        return SHARDS

    def source(self, shard: str) -> Iterator[Sample]:
        yield Sample(shard, {})

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            yield Row(sample.key, {"txt": _hash(sample.key, self.rounds)})


def benchmark(repeats: int) -> Iterator[Result]:
    """Shards of five seconds; those of a real run take longer, which favours Ray."""
    rounds = _rounds_in(SHARD_S)
    ray_executor = RayExecutor(num_cpus=WORKERS)
    try:
        pair = paired(lambda: _on_ray(ray_executor, rounds), lambda: _in_processes(rounds), repeats)
    finally:
        ray_executor.close()
    yield Result(
        f"map stage on Ray, {len(SHARDS)} shards of about {SHARD_S:g} s on {WORKERS} workers",
        f"the same `run_shard` in {WORKERS} plain processes, start-up excluded on both sides",
        f"{pair.rate:.2f}",
        "≥ 0.93",
        f"{len(SHARDS) / pair.work_s:.2f} against {len(SHARDS) / pair.against_s:.2f} shards/s",
    )


def _on_ray(executor: RayExecutor, rounds: int) -> float:
    with TemporaryDirectory() as folder:
        spec = _spec(Path(folder), rounds)
        ended_s = _last_outcome_s(executor, spec, SHARDS, folder)
        return ended_s - _started_s(Path(folder))


def _in_processes(rounds: int) -> float:
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        spec = _spec(Path(folder), rounds)
        parts = [SHARDS[first::WORKERS] for first in range(WORKERS)]
        futures = [pool.submit(_last_outcome_s, InProcessExecutor(), spec, part, folder) for part in parts]
        return max(future.result() for future in futures) - _started_s(Path(folder))


def _spec(folder: Path, rounds: int) -> StageSpec:
    meeting = folder / MEETING
    meeting.mkdir()
    return StageSpec.of(Node("busy", Busy(rounds, str(meeting)), Pool(min_workers=WORKERS, max_workers=WORKERS)))


def _last_outcome_s(executor: Executor, spec: StageSpec, shards: Sequence[str], folder: str) -> float:
    """The time at which the last shard was done."""
    ended_s = 0.0
    for outcome in executor.run_chain([spec], shards, RunDir(f"{folder}/run")):
        if outcome.status != "done":
            raise RuntimeError(f"shard {outcome.shard}: {outcome.status} {outcome.error}")
        ended_s = time.time()
    return ended_s


def _started_s(folder: Path) -> float:
    """The time at which the last worker was ready."""
    return max(path.stat().st_mtime for path in (folder / MEETING).iterdir())


def _rounds_in(seconds: float) -> int:
    """A fixed amount of work: a stage that just waited for a time would hide what slows it down."""
    probe = 200_000
    started = time.perf_counter()
    _hash("probe", probe)
    return round(probe * seconds / (time.perf_counter() - started))


def _hash(text: str, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"", rounds).hex().encode()
