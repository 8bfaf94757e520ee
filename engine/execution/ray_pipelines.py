"""The part of a run on Ray that is not the driver: the actor that runs pipelines of Ray Data, and their workers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.util import metrics
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..meters import METERS, export_to, measure, measure_outcome
from ..rundir.rundir import RunDir
from ..steps.outcome import Outcome, failed
from .run_shard import StageSpec
from .supervisor import Supervisor
from .worker_log import WorkerLog

_MOST_BLOCKS = 4096  # of a pipeline, which costs some KB for each; beyond, a block holds several shards
_REPORTS = "reports"  # what the actor hears, one after the other, beside its pipeline
_LOST_WORKERS = 3  # more may be lost over one shard than may die over a sample: a node that goes takes all it has


class Pipelines:
    """Executes one Ray Data pipeline after another. As an actor of its own it can be killed, and takes its pools along.

    It hears of a shard as that leaves a stage: Ray Data hands it out only when it has been through all of them.
    """

    @classmethod
    def start(cls, node_id: str) -> Any:
        """The actor, on a node if that is there."""
        remote: Any = ray.remote  # whose types know no groups
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=True)
        return remote(num_cpus=0, concurrency_groups={_REPORTS: 1})(cls).options(scheduling_strategy=strategy).remote()

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._begun: Counter[tuple[str, str]] = Counter()
        _quiet_ray_data()

    def execute(self, specs: Sequence[StageSpec], shards: list[str], stopped: list[bool], run: RunDir) -> None:
        """Brings the shards through the stages; those that are `stopped` only by name."""
        self._begun.clear()
        now_s, each = time.time(), zip(shards, stopped, strict=True)
        rows = [{"shard": shard, "stopped": is_stopped, "ready_s": now_s} for shard, is_stopped in each]
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        here = ray.get_runtime_context().current_actor
        for spec in specs:
            dataset = _add_stage(dataset, spec, run, here, len(rows))
        for _ in dataset.iter_rows():
            pass

    @ray.method(concurrency_group=_REPORTS)
    def begin(self, node: str, shard: str) -> int:
        """How many workers have begun with a shard."""
        self._begun[node, shard] += 1
        return self._begun[node, shard]

    @ray.method(concurrency_group=_REPORTS)
    def report(self, outcome: Outcome) -> None:
        """A shard has been through a stage."""
        self._outcomes.append(outcome)

    @ray.method(concurrency_group=_REPORTS)
    def take(self) -> list[Outcome]:
        """What was reported since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken


def _add_stage(
    dataset: ray.data.Dataset, spec: StageSpec, run: RunDir, pipelines: Any, shards: int
) -> ray.data.Dataset:
    pool = spec.pool
    most = max(pool.min_workers, min(shards, pool.max_workers or shards))
    return dataset.map(
        _Worker,  # type: ignore[arg-type] - a class whose instances take rows
        fn_constructor_args=(spec, run, pipelines),
        compute=ActorPoolStrategy(min_size=min(pool.min_workers, shards), max_size=most),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
        memory=pool.memory_gib * 2**30 or None,
    )


class _Worker:
    """One worker of one stage. Ray starts another one if it is lost, and that one does the shard."""

    def __init__(self, spec: StageSpec, run: RunDir, pipelines: Any) -> None:
        self._spec, self._run, self._pipelines = spec, run, pipelines
        self._log = WorkerLog(run, spec.node)
        self._supervisor = Supervisor(spec, run, self._log.file)
        self._free_s = time.time()
        export_to(RayExporter())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        now_s, stage = time.time(), self._spec.node
        measure("dap_wait_seconds", now_s - row["ready_s"], stage=stage)
        measure("dap_idle_seconds", now_s - self._free_s, stage=stage)
        outcome = self._run_shard(row["shard"], row["stopped"])
        self._log.add(outcome)
        measure_outcome(outcome)
        ray.get(self._pipelines.report.remote(outcome))
        self._free_s = time.time()
        return {
            "shard": outcome.shard,
            "stopped": outcome.status in ("failed", "waiting"),
            "ready_s": self._free_s,
        }

    def _run_shard(self, shard: str, stopped: bool) -> Outcome:
        spec = self._spec
        if stopped:
            return Outcome(spec.node, spec.column, shard, "waiting")
        begun: Any = ray.get(self._pipelines.begin.remote(spec.node, shard))
        if begun > spec.limits.attempts + _LOST_WORKERS:
            why = f"{begun - 1} workers were lost over it, killed from outside (for their memory, perhaps)"
            return failed(spec.node, spec.column, self._run, shard, why)
        return self._supervisor.run(shard)


class RayExporter:
    """Hands figures to Ray, which serves those of all processes of a node to Prometheus."""

    def __init__(self) -> None:
        self._meters: dict[str, Any] = {}

    def take(self, name: str, value: float, tags: dict[str, str]) -> None:
        meter = METERS[name]
        if name not in self._meters:
            kind = metrics.Counter if meter.total else metrics.Gauge
            self._meters[name] = kind(name, meter.description, meter.tags)
        give = self._meters[name].inc if meter.total else self._meters[name].set
        give(value, tags)


def _quiet_ray_data() -> None:
    """Progress is shown per stage by the engine; Ray Data's own lines would stand between."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
