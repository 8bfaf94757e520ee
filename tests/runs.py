"""Steps run through the real engine, and columns to put before them, for the tests of stages and jobs."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner, RunResult
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.records.column import Column, TarColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import SourceStage, Step
from tests.footage import panorama

FRAMES = TarColumn("frames", ("jpg", "json"))


@dataclass
class Bring(SourceStage):
    """Writes given rows as a column, shard by shard: what the step under test is to read."""

    name = "bring"

    column: Column
    rows: Mapping[str, Sequence[Row]]

    @property
    def writes(self) -> Column:
        return self.column

    def settings(self) -> dict[str, Any]:
        return {"sha256": hashlib.sha256(pickle.dumps(self.rows)).hexdigest()}

    def shards(self) -> Sequence[str]:
        return sorted(self.rows)

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(row.key, {"row": row.fields}) for row in self.rows[shard])

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        return (Row(sample.key, sample["row"]) for sample in batch)


def result_of(place: Path | str, *steps: Step) -> RunResult:
    """What came of the steps in a run directory; each has been through pickle, as Ray would send it."""
    sent = [pickle.loads(pickle.dumps(step)) for step in steps]  # noqa: S301 - our own bytes
    graph = build_graph(Node(f"{step.name}-{number}", step) for number, step in enumerate(sent))
    quiet = Progress(Console(quiet=True))
    return Runner(graph, RunDir(str(place)), InProcessExecutor, quiet).run(graph.nodes)


def finished(place: Path | str, *steps: Step) -> RunDir:
    """The run directory after the steps, of which none failed."""
    result = result_of(place, *steps)
    assert not result.unfinished, result.unfinished[0].error
    return RunDir(str(place))


def failure(place: Path | str, *steps: Step) -> str:
    """The error that the last of the steps ends with."""
    return result_of(place, *steps).unfinished[-1].error


def rows_of(run: RunDir, column: str) -> dict[str, dict[str, Any]]:
    """All rows of a column by key."""
    return {row.key: dict(row.fields) for receipt in run.receipts(column).values() for row in run.rows(receipt)}


def hashes(run: RunDir, column: str) -> dict[str, str]:
    """The content hash of every shard of a column."""
    return {shard: receipt.output.sha256 for shard, receipt in run.receipts(column).items()}


def jpeg(seed: int, height: int = 32) -> bytes:
    """An encoded panorama of smooth colours."""
    return simplejpeg.encode_jpeg(panorama(height, seed), 90)


def frame(key: str, seed: int = 0, height: int = 32, **info: Any) -> Row:
    """A row of `frames`."""
    return Row(key, {"jpg": jpeg(seed, height), "json": {"video_id": key.split("-")[0], **info}})


def noise_depth_m(seed: int, height: int = 32) -> np.ndarray:
    """Distances (H, 2H) in metres that no smooth surface has, 1 m to 20 m."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.uniform(1, 20, (height, 2 * height)).astype(np.float32)
