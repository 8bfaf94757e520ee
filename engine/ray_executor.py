"""Ray runs the chains: one Ray Data plan over shard ids, an actor pool a stage. Rows are tiny: data stays stored."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy

from engine.executor import ResourceError, follow
from engine.recipe import Pool
from engine.rundir import RunDir
from engine.shard import MapStep, Outcome, ShardRunner

_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leaves CUDA_VISIBLE_DEVICES alone for workers without a GPU
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its errors reach us as exceptions; its log keeps the rest
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


class RayExecutor:
    """Connects to RAY_ADDRESS if that is set, else starts a Ray of its own for the life of the executor."""

    def __init__(self, num_cpus: int | None = None) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        address = os.environ.get("RAY_ADDRESS", "local")
        own = {"num_cpus": num_cpus, "include_dashboard": False} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        _quiet_ray_data()

    def check(self, chain: Sequence[MapStep]) -> None:
        """Raises ResourceError if the fewest workers of one stage do not fit into the cluster."""
        there = _cluster()
        for step in chain:
            for name, needed in _minimum(step.node.pool).items():
                if needed > there.get(name, 0.0):
                    raise ResourceError(
                        f"step {step.node.name!r} needs {needed:g} {name}, the cluster has {there.get(name, 0.0):g}"
                    )

    def run_chain(self, chain: Sequence[MapStep], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields outcomes as shards leave the chain, in the order they finish."""
        self.check(chain)
        outcomes: dict[str, list[Outcome]] = {shard: [] for shard in shards}
        for segment in fitting_segments(chain, _cluster()):
            for row in _plan(segment, outcomes, run).iter_rows():
                before = len(outcomes[row["shard"]])
                outcomes[row["shard"]] = [Outcome(**outcome) for outcome in json.loads(row["outcomes"])]
                yield from outcomes[row["shard"]][before:]

    def close(self) -> None:
        """Leaves the cluster; one that this executor started ends."""
        ray.shutdown()


class _ShardActor:
    """One worker of one stage."""

    def __init__(self, step: MapStep, run: RunDir) -> None:
        self._step, self._runner = step, ShardRunner(step, run)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        before = [Outcome(**outcome) for outcome in json.loads(row["outcomes"])]
        outcome = follow(self._step, self._runner, row["shard"], before)
        return {**row, "outcomes": _to_json([*before, outcome])}


def fitting_segments(chain: Sequence[MapStep], there: dict[str, float]) -> list[list[MapStep]]:
    """Cuts a chain so that the fewest workers of each piece fit into the cluster together: none waits for ever."""
    segments: list[list[MapStep]] = []
    for step in chain:
        together = [*(segments[-1] if segments else []), step]
        total = {name: sum(_minimum(s.node.pool)[name] for s in together) for name in ("CPU", "GPU", "memory")}
        if segments and all(total[name] <= there.get(name, 0.0) for name in total):
            segments[-1].append(step)
        else:
            segments.append([step])
    return segments


def _minimum(pool: Pool) -> dict[str, float]:
    each = {"CPU": pool.num_cpus, "GPU": pool.num_gpus, "memory": pool.memory_gib * 2**30}
    return {name: amount * pool.min_workers for name, amount in each.items()}


def _cluster() -> dict[str, float]:
    return dict(ray.cluster_resources())


def _plan(segment: Sequence[MapStep], outcomes: dict[str, list[Outcome]], run: RunDir) -> ray.data.Dataset:
    rows = [{"shard": shard, "outcomes": _to_json(before)} for shard, before in outcomes.items()]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    for step in segment:
        dataset = _add_stage(dataset, step, run, len(rows))
    return dataset


def _to_json(outcomes: Sequence[Outcome]) -> str:
    return json.dumps([dataclasses.asdict(outcome) for outcome in outcomes])


def _add_stage(dataset: ray.data.Dataset, step: MapStep, run: RunDir, shards: int) -> ray.data.Dataset:
    pool = step.node.pool
    most = max(pool.min_workers, min(shards, pool.max_workers or shards))
    return dataset.map(
        _ShardActor,  # type: ignore[arg-type] - a class whose instances take rows
        fn_constructor_args=(step, run),
        compute=ActorPoolStrategy(min_size=min(pool.min_workers, shards), max_size=most),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
        memory=pool.memory_gib * 2**30 or None,
    )


def _quiet_ray_data() -> None:
    """Progress is shown per stage by the engine; Ray Data's own lines would stand between."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
