"""Whether workers fit into a cluster. A node is what it has in all: {"CPU": 8, "GPU": 1, "memory": bytes}."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..steps.limits import Pool
from .run_shard import StageSpec

Machine = Mapping[str, float]
"""One node of a cluster: its resources by Ray's names; memory in bytes."""

_GIB = 2**30


class ResourceError(ValueError):
    """A step that asks for more than the cluster has; the message says what is needed and what there is."""


class ClusterError(RuntimeError):
    """A cluster that was lost, or lost too much of itself, in the middle of a run."""


def needed(pool: Pool) -> dict[str, float]:
    """What one worker takes."""
    each = {"CPU": pool.num_cpus, "GPU": pool.num_gpus, "memory": pool.memory_gib * _GIB}
    return {name: amount for name, amount in each.items() if amount}


def workers_that_fit(pool: Pool, machines: Sequence[Machine]) -> int:
    """How many workers the machines hold, each whole on one of them."""
    each = needed(pool)
    return sum(min(_times(amount, machine.get(name, 0.0)) for name, amount in each.items()) for machine in machines)


def _times(amount: float, there: float) -> int:
    """How often an amount is in what is there; 0.1 is ten times in 1.0, whatever floats say."""
    return math.floor(there / amount + 1e-9)


def check_room(step: str, pool: Pool, machines: Sequence[Machine]) -> None:
    """Raises ResourceError unless the machines hold the fewest workers of a step."""
    if workers_that_fit(pool, machines) >= pool.min_workers:
        return
    each = needed(pool)
    many = f"{pool.min_workers} workers of " if pool.min_workers > 1 else ""
    wanted = f"{many}{_words(each, each)}{' each' if many else ''}"
    there = "; ".join(_words(machine, each) for machine in machines) or "nothing"
    nodes = "the cluster has" if len(machines) < 2 else f"the {len(machines)} nodes of the cluster have"
    raise ResourceError(f"step {step!r} needs {wanted}; {nodes} {there}")


def fitting_segments(chain: Sequence[StageSpec], machines: Sequence[Machine]) -> list[list[StageSpec]]:
    """Cuts a chain so that the fewest workers of each piece fit into the cluster together: none waits for ever."""
    segments: list[list[StageSpec]] = []
    for spec in chain:
        together = [*(segments[-1] if segments else []), spec]
        if segments and _fit([other.pool for other in together], machines):
            segments[-1].append(spec)
        else:
            segments.append([spec])
    return segments


def _fit(pools: Sequence[Pool], machines: Sequence[Machine]) -> bool:
    """Whether the fewest workers of all pools find room together, the largest placed first."""
    free = [dict(machine) for machine in machines]
    workers = sorted((needed(pool) for pool in pools for _ in range(pool.min_workers)), key=_size, reverse=True)
    for worker in workers:
        place = next(
            (one for one in free if all(one.get(name, 0.0) >= amount - 1e-9 for name, amount in worker.items())), None
        )
        if place is None:
            return False
        for name, amount in worker.items():
            place[name] -= amount
    return True


def _size(worker: Mapping[str, float]) -> tuple[float, ...]:
    return worker.get("GPU", 0.0), worker.get("CPU", 0.0), worker.get("memory", 0.0)


def _words(amounts: Machine, names: Mapping[str, float]) -> str:
    return " and ".join(_amount(name, amounts.get(name, 0.0)) for name in names)


def _amount(name: str, amount: float) -> str:
    return f"{amount / _GIB:.4g} GiB of memory" if name == "memory" else f"{amount:g} {name}"
