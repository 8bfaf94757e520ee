"""Executors bring shards through a chain of map stages. All of them call ShardRunner, and so agree in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..planning.recipe import Node
from ..rundir.rundir import RunDir
from ..steps.outcome import Outcome
from .run_shard import MapStep, ShardRunner


class Executor(Protocol):
    """Runs chains. An executor may hold a cluster; `close` lets go of it."""

    def check(self, nodes: Sequence[Node]) -> None:
        """Raises ResourceError if a step needs more than there is."""

    def run_chain(self, chain: Sequence[MapStep], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields the outcome of every stage for every shard, as they come."""
        ...

    def close(self) -> None:
        """Lets go of what the executor holds."""


class InProcessExecutor:
    """One shard after another, in this process: for tests, debugging and small runs."""

    def check(self, nodes: Sequence[Node]) -> None:
        """Nothing to refuse: this process is what there is."""

    def run_chain(self, chain: Sequence[MapStep], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields the outcomes shard by shard."""
        runners = [(step, ShardRunner(step, run)) for step in chain]
        try:
            for shard in shards:
                outcomes: list[Outcome] = []
                for step, runner in runners:
                    outcomes.append(_follow(step, runner, shard, outcomes))
                    yield outcomes[-1]
        finally:
            for _, runner in runners:
                runner.close()

    def close(self) -> None:
        """Nothing is held."""


def _follow(step: MapStep, runner: ShardRunner, shard: str, before: Sequence[Outcome]) -> Outcome:
    """Runs a shard at one stage unless the stages before it on the chain did not get it through."""
    if any(outcome.status in ("failed", "waiting") for outcome in before):
        return Outcome(step.node.name, step.stage.writes.name, shard, "waiting")
    return runner.run(shard)
