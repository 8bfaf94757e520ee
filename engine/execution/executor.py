"""Executors bring shards through a chain of map stages. All of them call ShardRunner, and so agree in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from ..meters import measure_outcome
from ..rundir.rundir import RunDir
from ..steps.limits import Pool
from ..steps.outcome import Outcome
from .run_shard import ShardRunner, StageSpec
from .worker_log import SampleTracebacks


class Executor(Protocol):
    """Runs chains. An executor may hold a cluster; `close` lets go of it."""

    def check(self, pools: Mapping[str, Pool]) -> None:
        """Raises ResourceError if a step, of which this is the name and the pool, needs more than there is."""

    def run_chain(self, chain: Sequence[StageSpec], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields the outcome of every stage for every shard, as they come."""
        ...

    def close(self) -> None:
        """Lets go of what the executor holds."""


class InProcessExecutor:
    """One shard after another, in this process: for tests, debugging and small runs."""

    def check(self, pools: Mapping[str, Pool]) -> None:
        """Nothing to refuse: this process is what there is."""

    def run_chain(self, chain: Sequence[StageSpec], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields the outcomes shard by shard."""
        runners = [ShardRunner(spec, run) for spec in chain]
        logs = [SampleTracebacks(run, spec.node) for spec in chain]
        try:
            for shard in shards:
                stopped = False
                for spec, runner, log in zip(chain, runners, logs, strict=True):
                    with log.taken():
                        outcome = Outcome(spec.node, spec.column, shard, "waiting") if stopped else runner.run(shard)
                    log.add(outcome)
                    stopped = outcome.status in ("failed", "waiting")
                    measure_outcome(outcome)
                    yield outcome
        finally:
            for part in (*runners, *logs):
                part.close()

    def close(self) -> None:
        """Nothing is held."""
