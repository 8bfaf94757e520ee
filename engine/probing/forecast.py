"""What a run will take on the machines at hand, from what a probe has measured.

A worker is set up once; then a shard takes it `finish_s` + `sample_s` for each sample. A stage by itself takes its
shards in waves of as many workers as its pool and the machines allow. The stages of a chain work side by side, so a
chain takes what its slowest stage takes, and one shard's way through the others; or, if that is longer, the CPUs, GPUs
and memory that all its workers hold and for how long, over what there is. Chains follow one another.

Without machines, the run is one process that takes one shard of one stage after another. What one stage has imported
is there for the next, so that the longest set-up counts, and no other.

Left out: the time of barriers, Ray's own start, waiting for storage that others share, and machines unlike this one.
A shard of which some samples were put back counts as a whole one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..execution.placement import Machine, needed, workers_that_fit
from ..planning.plan import NodePlan
from ..planning.recipe import Node
from ..steps.limits import Pool
from ..steps.step import SourceStage, Step
from .measure import Measured
from .probe import Probed

_GIB = 2**30
_HOUR_S = 3600.0


@dataclass(frozen=True)
class StageForecast:
    """What is left to do of one stage, and what it will take."""

    node: Node
    shards: int
    workers: int
    samples_in: int
    samples_out: int
    bytes: int
    set_up_s: float  # of one worker
    shard_s: float
    work_s: float  # of all workers together, set-up included
    wall_s: float  # if the stage had the machines to itself
    core_hours: float
    gpu_hours: float
    peak_bytes: int  # of memory, one worker

    @property
    def demand(self) -> dict[str, float]:
        """Resource-seconds that the stage takes, by Ray's names."""
        memory_s = self.work_s * needed(self.node.pool).get("memory", 0.0)
        return {"CPU": self.core_hours * _HOUR_S, "GPU": self.gpu_hours * _HOUR_S, "memory": memory_s}


@dataclass(frozen=True)
class Forecast:
    """All stages that could be predicted, by name, and their totals."""

    stages: Mapping[str, StageForecast]
    wall_s: float
    core_hours: float
    gpu_hours: float
    bytes: int
    warnings: tuple[str, ...]


def forecast(
    probed: Sequence[Probed],
    plans: Mapping[str, NodePlan],
    chains: Sequence[Sequence[Node]],
    samples: Callable[[str], Mapping[str, int]],
    machines: Sequence[Machine],
) -> Forecast:
    """Predicts the pending shards of the stages that were probed. `samples` tells those of each shard of a column.

    One whose probe names no shard was not tried on this machine: there is nothing to warn of.
    """
    columns = _Columns(samples)
    stages: dict[str, StageForecast] = {}
    for each in probed:
        if each.measured:
            stages[each.node.name] = _stage(each.node, each.measured, plans[each.node.name], columns, machines)
    tried = [each.node.name for each in probed if each.measured and each.shard]
    by_chain = [[stages[node.name] for node in chain if node.name in stages] for chain in chains]
    return Forecast(
        stages,
        sum(_chain_s(chain, machines) for chain in by_chain) if machines else _in_process_s(list(stages.values())),
        sum(stage.core_hours for stage in stages.values()),
        sum(stage.gpu_hours for stage in stages.values()),
        sum(stage.bytes for stage in stages.values()),
        tuple(
            warning for stage in stages.values() if stage.node.name in tried for warning in _warnings(stage, machines)
        ),
    )


class _Columns:
    """Samples by column and shard: as they are, and as they will be where a stage is going to make them."""

    def __init__(self, samples: Callable[[str], Mapping[str, int]]) -> None:
        self._samples = samples
        self._known: dict[str, dict[str, float]] = {}

    def of(self, column: str) -> dict[str, float]:
        """Samples of every shard of a column."""
        if column not in self._known:
            self._known[column] = dict(self._samples(column))
        return self._known[column]

    def joined(self, step: Step, shards: Sequence[str]) -> dict[str, float]:
        """Samples of each shard that all columns of it have; an unknown count is that of the column's average shard."""
        counts = {column: self.of(column) for column in step.reads}
        usual = {column: sum(of.values()) / max(1, len(of)) for column, of in counts.items()}
        read = {s: step.shard_reads([column for column in counts if s in counts[column]]) for s in shards}
        return {s: min(counts[column].get(s, usual[column]) for column in read[s]) for s in shards}


def _stage(
    node: Node, measured: Measured, plan: NodePlan, columns: _Columns, machines: Sequence[Machine]
) -> StageForecast:
    samples_in = _samples_in(node, measured, plan.pending, columns)
    samples_out = {shard: count * measured.out_per_in for shard, count in samples_in.items()}
    columns.of(node.step.writes.name).update(samples_out)
    total_in, total_out, shards = sum(samples_in.values()), sum(samples_out.values()), len(plan.pending)
    workers = _workers(node.pool, shards, machines)
    shard_s = measured.finish_s + measured.sample_s * total_in / max(1, shards)
    work_s = shards * shard_s + workers * measured.set_up_s
    return StageForecast(
        node=node,
        shards=shards,
        workers=workers,
        samples_in=round(total_in),
        samples_out=round(total_out),
        bytes=round(total_out * measured.bytes_per_sample + shards * measured.empty_bytes),
        set_up_s=measured.set_up_s,
        shard_s=shard_s,
        work_s=work_s,
        wall_s=measured.set_up_s + math.ceil(shards / workers) * shard_s if shards else 0.0,
        core_hours=work_s * max(node.pool.num_cpus, measured.cores) / _HOUR_S,
        gpu_hours=work_s * node.pool.num_gpus / _HOUR_S,
        peak_bytes=measured.peak_bytes,
    )


def _samples_in(node: Node, measured: Measured, shards: Sequence[str], columns: _Columns) -> dict[str, float]:
    if isinstance(node.step, SourceStage):
        return dict.fromkeys(shards, float(measured.samples_in_shard or 0))
    return columns.joined(node.step, shards)


def _workers(pool: Pool, shards: int, machines: Sequence[Machine]) -> int:
    if not machines:
        return min(1, shards)
    return min(shards, pool.max_workers or shards, max(1, workers_that_fit(pool, machines)))


def _chain_s(chain: Sequence[StageForecast], machines: Sequence[Machine]) -> float:
    chain = [stage for stage in chain if stage.shards]
    if not chain:
        return 0.0
    slowest = max(chain, key=lambda stage: stage.wall_s)
    others_s = sum(stage.shard_s for stage in chain if stage is not slowest)
    return max(slowest.wall_s + others_s, *(_busy_s(chain, name, machines) for name in ("CPU", "GPU", "memory")))


def _in_process_s(stages: Sequence[StageForecast]) -> float:
    stages = [stage for stage in stages if stage.shards]
    set_up_s = max((stage.set_up_s for stage in stages), default=0.0)
    return set_up_s + sum(stage.shards * stage.shard_s for stage in stages)


def _busy_s(chain: Sequence[StageForecast], resource: str, machines: Sequence[Machine]) -> float:
    """How long a resource is taken, if all of it is taken all the time."""
    there = sum(machine.get(resource, 0.0) for machine in machines)
    return sum(stage.demand[resource] for stage in chain) / there if there else 0.0


def _warnings(stage: StageForecast, machines: Sequence[Machine]) -> list[str]:
    name, pool, found = stage.node.name, stage.node.pool, []
    peak_gib = stage.peak_bytes / _GIB
    if pool.memory_gib and peak_gib > pool.memory_gib:
        found.append(f"{name}: a worker took {peak_gib:.1f} GiB; its pool.memory_gib is {pool.memory_gib:g}")
    there_gib = sum(machine.get("memory", 0.0) for machine in machines) / _GIB
    if there_gib and not pool.memory_gib and stage.workers * peak_gib > there_gib:
        found.append(f"{name}: {stage.workers} workers of {peak_gib:.1f} GiB, but {there_gib:.1f} GiB are there")
    if pool.num_gpus and not any(Path("/dev").glob("nvidia[0-9]*")):
        found.append(f"{name}: works on GPUs, but was measured here, where there is none")
    return found
