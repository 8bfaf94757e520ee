"""What every step of a run will take on a cluster that need not be there: from a probe, else from the table of rates.

Map stages go through the arithmetic of `engine.probing.forecast`: what the table says stands in for what a probe would
have measured. A barrier takes what its samples take; a training its steps; steps follow one another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from ...engine.execution.placement import check_room
from ...engine.planning.plan import NodePlan, is_map
from ...engine.planning.recipe import Node
from ...engine.probing.forecast import forecast
from ...engine.probing.measure import Measured
from ...engine.probing.probe import Probe, Probed
from ...engine.steps.step import SourceStage
from ...stages.batches.panoramas import names_of
from ...stages.extract import CANDIDATES, Extract
from ...stages.film import Film
from ...stages.generate import Generate
from ...stages.images import Images
from ...stages.pack import Pack
from ...stages.packing.sources import Source
from ...stages.plan import Plan
from ...stages.reports.evaluate import Evaluate
from ...stages.select import Select
from ...stages.simulate import Simulate
from ...stages.training.training import Training
from ..job import Job
from .nodes import Nodes
from .operations import Operations
from .rates import rates

How = Literal["probed", "measured", "estimated", "unknown"]
_HOUR_S = 3600.0
_VIDEOS_A_PIECE = 256  # whose headers are read on the cluster
_USUAL_VIDEO = (1920, 24.0)  # rows, frames a second
_SAMPLES = 1000  # that a rate of the table stands for


@dataclass(frozen=True)
class Cost:
    """What is left to do of a step, and what it takes. `how` says where that is from, `basis` in words."""

    step: str
    how: How
    basis: str
    shards: int
    samples: int
    bytes: int = 0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True)
class Costs:
    """All steps with work left, in order, and how long they take together; `unknown` steps take no time in it."""

    steps: tuple[Cost, ...]
    wall_s: float
    warnings: tuple[str, ...] = ()

    def total(self, name: str) -> float:
        """A sum over the steps: bytes, core_hours or gpu_hours."""
        return sum(getattr(cost, name) for cost in self.steps)


def estimate(job: Job, nodes: Nodes, probe: Probe, probed: Sequence[Probed]) -> Costs:
    """Costs of all pending steps. `probe` has planned them, `probed` are those that it tried, if any.

    Raises ResourceError for a step whose workers the cluster has no room for.
    """
    return _Estimate(job, nodes, probe, {each.node.name: each for each in probed}).costs()


@dataclass
class _Estimate:
    job: Job
    nodes: Nodes
    probe: Probe
    probed: Mapping[str, Probed]
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)  # of columns that are not there: samples by shard
    sources: dict[str, tuple[How, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.operations = Operations(self.job.graph)

    def costs(self) -> Costs:
        plans = {node.name: self._known(self.probe.plans[node.name]) for node in self.job.nodes}
        pending = [plan.node for plan in plans.values() if not plan.done]
        for node in pending:
            if node.workers:
                check_room(node.name, node.workers, self.nodes.machines)
        tried = [self._rated(node) for node in pending if is_map(node) and plans[node.name].shards]
        machines = () if self.job.recipe.executor == "in-process" else self.nodes.machines
        foretold = forecast(tried, plans, self.job.graph.chains(self.job.nodes), self._samples, machines)
        costs: list[Cost] = []
        for node in pending:
            if stage := foretold.stages.get(node.name):
                self.sizes[node.step.produces] = {"": stage.samples_out}
                how, basis = self.sources[node.name]
                held = (stage.bytes, stage.core_hours, stage.gpu_hours, stage.wall_s)
                costs.append(Cost(node.name, how, basis, stage.shards, stage.samples_out, *held))
            elif is_map(node):
                costs.append(Cost(node.name, "unknown", "; ".join(plans[node.name].reasons), 0, 0))
            else:
                costs.append(self._barrier(node))
        barriers_s = sum(cost.wall_s for cost in costs if cost.step not in foretold.stages)
        return Costs(tuple(costs), foretold.wall_s + barriers_s, foretold.warnings)

    # What there will be

    def _known(self, plan: NodePlan) -> NodePlan:
        """A plan whose shards are those that its root will have, as far as that can be said."""
        roots = self.job.graph.roots(plan.node)
        found = [self.probe.plans[root.name].shards or tuple(self._samples(root.step.produces)) for root in roots]
        if plan.shards is not None or not all(found):
            return plan
        shards = tuple(sorted(chain.from_iterable(found)))
        return dataclasses.replace(plan, shards=shards, pending=shards)

    def _samples(self, column: str) -> Mapping[str, int]:
        """Samples by shard: as they are or were listed, else as the recipe expects."""
        if found := self.probe.samples(column):
            return found
        if column not in self.sizes:
            self.sizes[column] = self._expected(column)
        return self.sizes[column]

    def _expected(self, column: str) -> dict[str, int]:
        expected, maker = self.job.recipe.expects.get(column), self.job.graph.producer(column)
        if maker and isinstance(maker.step, Plan):
            films = [made.step for name in maker.step.reads if (made := self.job.graph.producer(name))]
            if expected:
                return _even(expected.samples, expected.shards)
            if films and isinstance(films[0], Film):
                return _even(films[0].videos, math.ceil(films[0].videos / maker.step.videos_per_shard))
        return {}

    def _count(self, column: str) -> int:
        return sum(self._samples(column).values())

    # Map stages

    def _rated(self, node: Node) -> Probed:
        """What the probe has measured of a stage, where it ran on what the stage runs on, or what the table says."""
        tried = self.probed.get(node.name)
        if tried and tried.measured and (not node.pool.num_gpus or any(Path("/dev").glob("nvidia[0-9]*"))):
            self.sources[node.name] = "probed", f"{tried.measured.samples_in} samples, here"
            return tried
        return Probed(node, measured=self._from_table(node))

    def _from_table(self, node: Node) -> Measured:
        step, pool, height = node.step, node.pool, self._height(node)
        rate, operations = rates().steps.get(step.name), self.operations.of_sample(node, height)
        in_shard, out_per_in, units = self._fan_out(step)
        if rate is None or operations is None:
            self.sources[node.name] = "unknown", "no rate for it: its time is not in the sums"
            return _measured(0.0, 0.0, 0.0, out_per_in, in_shard)
        rate = rate.at(height)
        cpu_s = rate.cpu_s * units
        self.sources[node.name] = "measured", rate.where
        if isinstance(step, Extract):
            cpu_s += units * self._decode_s(step)
            sample_s = cpu_s / (rates().second_core if min(step.threads, pool.num_cpus) > 1 else 1.0)
        elif operations and pool.num_gpus:
            on_card_s = operations * units / (self.nodes.peak_flops * rates().card_share * pool.num_gpus)
            sample_s = max(on_card_s, cpu_s / max(1.0, pool.num_cpus))
            self.sources[node.name] = "estimated", self._on_cards(operations)
        else:
            sample_s = cpu_s + operations * units / (rates().cpu_flops * self._cores(pool.num_cpus))
            if operations:
                self.sources[node.name] = "measured", f"{_tera(operations)} a sample; {rates().cpu_flops_where}"
        written = out_per_in if isinstance(step, Extract) else units  # of the frames looked at, those that are kept
        return _measured(sample_s, rates().set_up_s, rate.bytes * written / out_per_in, out_per_in, in_shard)

    def _cores(self, of_worker: float) -> float:
        """That a network computes on: a worker's on Ray, all of the machine in a run of one process."""
        if self.job.recipe.executor == "in-process":
            return max(machine["CPU"] for machine in self.nodes.machines)
        return max(1.0, of_worker)

    def _fan_out(self, step: Any) -> tuple[float | None, float, float]:
        """Samples in a source's shard, in the mean; samples out for one in; and how many the rate is of, for one in."""
        if isinstance(step, Simulate):
            per_shard = min(step.panoramas_per_shard, step.panoramas)
            return 1, per_shard, per_shard
        if isinstance(step, Film):
            return 1, 1, round(step.seconds * step.fps)
        if isinstance(step, Extract):
            frames = self._frames_a_video(step)
            return None, frames, frames * (CANDIDATES if step.max_frames else 1)
        if isinstance(step, (Generate, Images)) and step.panoramas:
            return step.panoramas / len(step.shards()), 1, 1
        if isinstance(step, SourceStage):
            return getattr(step, "panoramas_per_shard", 1), 1, 1
        return None, 1, 1

    def _frames_a_video(self, step: Extract) -> float:
        expects = self.job.recipe.expects
        if "frames" in expects and "plan" in expects and expects["plan"].samples:
            return expects["frames"].samples / expects["plan"].samples
        seconds = self._video_s()
        frames = max(1.0, seconds / step.every_s)
        return min(frames, step.max_frames or frames)

    def _decode_s(self, step: Extract) -> float:
        """Of the frames that are decoded for one that is sampled: those of films, else of 4K at 24 frames a second."""
        film = next((node.step for node in self.job.graph.nodes if isinstance(node.step, Film)), None)
        height, fps = (film.height, film.fps) if film else _USUAL_VIDEO
        frames = min(max(1.0, fps * step.every_s), rates().decoded_for_one)
        return frames * 2e-6 * height**2 * rates().decode_cpu_s_per_megapixel

    def _video_s(self) -> float:
        """The mean length of the videos, where their headers or the step that films them say it; else a minute."""
        films = [node.step for node in self.job.graph.nodes if isinstance(node.step, Film)]
        return films[0].seconds if films else self.probe.mean("plan", "seconds") or 60.0

    def _height(self, node: Node) -> int:
        """Of the panoramas that a stage makes, or reads."""
        if height := getattr(node.step, "height", None) if not node.step.reads or "plan" in node.step.reads else None:
            return height
        maker = self.job.graph.producer(node.step.reads[0]) if node.step.reads else None
        return self._height(maker) if maker and is_map(maker) else 512

    def _on_cards(self, operations: float) -> str:
        share = f"{rates().card_share:.0%} of the peak of {self.nodes.card}"
        return f"{_tera(operations)} a sample at {share}: {rates().card_share_where}"

    # Barriers

    def _barrier(self, node: Node) -> Cost:
        step, rate = node.step, rates().steps.get(node.step.name)
        if isinstance(step, Training):
            return self._training(node, step)
        if isinstance(step, Evaluate):
            return self._evaluation(node, step)
        if rate is None or not isinstance(step, (Plan, Pack, Select)):
            return Cost(node.name, "unknown", "no rate for it: its time is not in the sums", 0, 0)
        rate = rate.at(self._height(node))
        samples = {Plan: self._videos, Pack: self._packed, Select: self._selected}[type(step)](step)
        core_s, alone_s, pieces = samples * rate.cpu_s, 0.0, 1
        shards = len(self._samples(step.reads[0] if step.reads else "plan"))
        if isinstance(step, Pack):
            by_bytes = step.bytes_per_shard and samples * rate.bytes / step.bytes_per_shard
            shards = pieces = math.ceil(by_bytes or samples / step.samples_per_shard)
            alone_s = samples * rates().steps["select"].cpu_s  # the assignment
        elif isinstance(step, Plan):
            pieces = math.ceil(samples / _VIDEOS_A_PIECE)
        cores = max(1.0, min(pieces, self.nodes.cpus if self.job.recipe.executor == "ray" else 1.0))
        self.sizes[step.produces] = {"": samples}
        held = (round(samples * rate.bytes), (core_s + alone_s) / _HOUR_S, 0.0, core_s / cores + alone_s)
        return Cost(node.name, "measured", rate.where, shards, samples, *held)

    def _videos(self, _: Any) -> int:
        return self._count("plan")

    def _selected(self, step: Select) -> int:
        return min(sum(step.top.values()), self._count(step.reads[1]))

    def _packed(self, step: Pack) -> int:
        return sum(self._in_source(source) for source in step.sources)

    def _in_source(self, source: Source) -> int:
        images = sum(map(self._count, names_of(source.images)))
        return min([images, *(self._count(column) for column in (source.labels, source.selection) if column)])

    def _training(self, node: Node, step: Training) -> Cost:
        operations, hardware = self.operations.of_step(node), step.hardware
        samples, ranks = step.total_steps * step.batches.batch_size, hardware.pool.max_workers or 1
        if operations is None:
            return Cost(node.name, "unknown", "its network is not known: its time is not in the sums", 1, samples)
        cards = hardware.num_gpus * ranks if hardware.workers else min(1.0, self.nodes.gpus)
        cores = hardware.num_cpus * ranks if hardware.workers else max(m["CPU"] for m in self.nodes.machines)
        speed = self.nodes.peak_flops * rates().card_share * cards if cards else rates().cpu_flops * cores
        wall_s = operations * step.total_steps / speed
        each = f"{step.total_steps:,} steps of {_tera(operations)}"
        where = f"{rates().card_share:.0%} of the peak of {self.nodes.card}" if cards else rates().cpu_flops_where
        hours = cores * wall_s / _HOUR_S, cards * wall_s / _HOUR_S
        return Cost(node.name, "estimated", f"{each}; {where}", 1, samples, 0, *hours, wall_s)

    def _evaluation(self, node: Node, step: Evaluate) -> Cost:
        makers = [self.job.graph.producer(column) for column in step.data.values()]
        shares = [getattr(maker.step, f"{step.split}_share", 1.0) if maker else 1.0 for maker in makers]
        samples = round(
            sum(self._count(column) * share for column, share in zip(step.data.values(), shares, strict=True))
        )
        operations = self.operations.of_evaluation(step)
        if operations is None:
            return Cost(node.name, "unknown", "a model of it is not known: its time is not in the sums", 1, samples)
        cards, cores = min(1.0, self.nodes.gpus), max(machine["CPU"] for machine in self.nodes.machines)
        speed = self.nodes.peak_flops * rates().card_share if cards else rates().cpu_flops * cores
        wall_s = operations * samples / speed
        hours = cores * wall_s / _HOUR_S, cards * wall_s / _HOUR_S
        return Cost(node.name, "estimated", f"{_tera(operations)} a panorama", 1, samples, 0, *hours, wall_s)


def _even(samples: int, shards: int) -> dict[str, int]:
    """Samples spread evenly over shards."""
    ends = [samples * number // shards for number in range(shards + 1)]
    return {f"{number:06d}": ends[number + 1] - ends[number] for number in range(shards)}


def _measured(
    sample_s: float, set_up_s: float, bytes_each: float, out_per_in: float, in_shard: float | None
) -> Measured:
    """A rate in the place of a measurement."""
    out = round(_SAMPLES * out_per_in)
    return Measured(
        samples_in=_SAMPLES,
        samples_out=out,
        drops={},
        set_up_s=set_up_s,
        sample_s=sample_s,
        finish_s=0.0,
        steady=True,
        cores=0.0,
        peak_bytes=0,
        output_bytes=round(out * bytes_each),
        empty_bytes=0,
        samples_in_shard=in_shard,
    )


def _tera(operations: float) -> str:
    return f"{operations / 1e12:.3g} Tflop"
