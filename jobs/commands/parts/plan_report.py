"""A plan and a forecast as tables for people and as one JSON document for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ....engine.execution.placement import Machine
from ....engine.planning.plan import NodePlan
from ....engine.probing.forecast import Forecast, StageForecast
from ....engine.probing.measure import Measured
from ....engine.probing.probe import Probed
from ....engine.quantities import duration, hours, size
from ...tables import show_table

if TYPE_CHECKING:
    from ...cost.estimate import Costs


def plan_document(recipe: str, uri: str, plans: Sequence[NodePlan]) -> dict[str, Any]:
    """The plan for programs; `shards` and `to_do` are None where steps before must run first."""
    return {"recipe": recipe, "run_dir": uri, "steps": [_step(plan) for plan in plans]}


def _step(plan: NodePlan) -> dict[str, Any]:
    step, known = plan.node.step, plan.shards is not None
    return {
        "step": plan.node.name,
        "kind": step.name,
        "reads": list(step.reads),
        "loads": list(step.assets().values()),
        "writes": step.produces,
        "shards": len(plan.shards or ()) if known else None,
        "to_do": len(plan.pending) if known else None,
        "reasons": dict(plan.reasons),
        "to_remove": len(plan.orphans),
    }


def print_plan(document: dict[str, Any]) -> None:
    """A row per step."""
    title = f"{document['recipe']} in {document['run_dir']}"
    table = Table("step", "kind", "reads", "writes", "to do", "of", "why", title=title)
    for step in document["steps"]:
        reads = ", ".join((*step["reads"], *step["loads"]))
        to_do, shards = ("?" if step[name] is None else str(step[name]) for name in ("to_do", "shards"))
        table.add_row(step["step"], step["kind"], reads, step["writes"], to_do, shards, _why(step))
    show_table(table)
    for warning in document.get("warnings", ()):
        print(f"warning: {warning}")


def _why(step: dict[str, Any]) -> str:
    """Each reason, and for how many shards it holds where that is known and there are several reasons."""
    reasons, several = step["reasons"], len(step["reasons"]) > 1
    words = [f"{reason} ({count})" if several and count else reason for reason, count in reasons.items()]
    if step["to_remove"]:
        words.append(f"{step['to_remove']} in the recipe no more: to be removed")
    return "; ".join(words) or "up to date"


def forecast_document(
    probed: Sequence[Probed], predicted: Forecast, machines: Sequence[Machine], left_out: Sequence[str]
) -> dict[str, Any]:
    """Measurements and predictions for programs: seconds, bytes, hours of cores and GPUs; `left_out` are steps."""
    there = [{name: machine.get(name, 0.0) for name in ("CPU", "GPU", "memory")} for machine in machines]
    total = {name: getattr(predicted, name) for name in ("wall_s", "core_hours", "gpu_hours", "bytes")}
    return {
        "machines": there,  # none: the run is one process
        "stages": {name: _stage(each, predicted) for each in probed if (name := each.node.name) in predicted.stages},
        "not_probed": {each.node.name: each.why_not for each in probed if each.why_not},
        "logs": {each.node.name: each.log for each in probed if each.log},  # of those not probed
        "not_predicted": list(left_out),
        "warnings": list(predicted.warnings),
        "total": total,
    }


def _stage(probed: Probed, predicted: Forecast) -> dict[str, Any]:
    assert probed.measured, "it is among the predicted"
    values = vars(predicted.stages[probed.node.name])
    plain = {name: value for name, value in values.items() if name != "node"}
    return {**plain, "probed": {"shard": probed.shard, **dataclasses.asdict(probed.measured)}}


def print_forecast(probed: Sequence[Probed], predicted: Forecast, left_out: Sequence[str]) -> None:
    """A row per stage; then totals, what is not in them, and what is wrong."""
    work = ("step", "a sample", "set-up", "shards", "samples", "workers", "time")
    table = Table(
        *work, "core-hours", "GPU-hours", "memory", "bytes", title="what is left to do, predicted from a few samples"
    )
    for each in probed:
        if each.measured:
            table.add_row(*_row(each.measured, predicted.stages[each.node.name]))
    total = duration(predicted.wall_s), hours(predicted.core_hours), hours(predicted.gpu_hours)
    table.add_section()
    table.add_row("all", *[""] * 5, *total, "", size(predicted.bytes))
    show_table(table)
    for line in _remarks(probed, predicted, left_out):
        print(line)


def _remarks(probed: Sequence[Probed], predicted: Forecast, left_out: Sequence[str]) -> Iterator[str]:
    for each in probed:
        if each.measured and each.measured.drops:
            drops = ", ".join(f"{code} {count}" for code, count in each.measured.drops.items())
            yield f"dropped: {each.node.name}: {drops} of {each.measured.samples_in} samples tried"
        elif each.why_not:
            yield f"not probed: {each.node.name}: {each.why_not}" + (f" ({each.log})" if each.log else "")
    if left_out:
        yield f"not predicted: {', '.join(left_out)}"
    yield from (f"warning: {warning}" for warning in predicted.warnings)


def _row(measured: Measured, stage: StageForecast) -> tuple[str, ...]:
    warm = "" if measured.steady else "≤ "  # the first batch, which warms up, is in it
    memory = size(stage.peak_bytes)
    if allowed_gib := stage.node.pool.memory_gib:
        memory += f" of {size(allowed_gib * 2**30)}"
    return (
        stage.node.name,
        warm + duration(measured.sample_s),
        duration(measured.set_up_s),
        str(stage.shards),
        f"{stage.samples_in} → {stage.samples_out}",
        str(stage.workers),
        duration(stage.wall_s),
        hours(stage.core_hours),
        hours(stage.gpu_hours),
        memory,
        size(stage.bytes),
    )


def costs_document(nodes: str, costs: Costs) -> dict[str, Any]:
    """What every step takes on a cluster, for programs: bytes, hours of cores and GPUs, seconds; and whence."""
    from ...cost.rates import rates

    total = {name: costs.total(name) for name in ("bytes", "core_hours", "gpu_hours")}
    return {
        "nodes": nodes,
        "steps": [dataclasses.asdict(cost) for cost in costs.steps],
        "total": {**total, "wall_s": costs.wall_s},
        "sure": {how: rates().sure[how] for how in dict.fromkeys(cost.how for cost in costs.steps)},
        "warnings": list(costs.warnings),
    }


def print_costs(document: dict[str, Any]) -> None:
    """A row per step; then totals, and how sure each kind of figure is."""
    names = ("step", "shards", "samples", "bytes", "core-hours", "GPU-hours", "time", "how", "from")
    table = Table(*names, title=f"what is left to do, on {document['nodes']}")
    for cost in document["steps"]:
        counts = (f"{cost['shards']:,}", f"{cost['samples']:,}") if cost["samples"] else ("?", "?")
        table.add_row(cost["step"], *counts, *_held(cost), cost["how"], cost["basis"])
    table.add_section()
    table.add_row("all", "", "", *_held(document["total"]), "", "")
    show_table(table)
    for how, words in document["sure"].items():
        print(f"{how}: {words}")
    for warning in document["warnings"]:
        print(f"warning: {warning}")


def _held(cost: dict[str, Any]) -> tuple[str, ...]:
    if cost.get("how") == "unknown":
        return size(cost["bytes"]) if cost["bytes"] else "", "?", "?", "?"
    amounts = (size(cost["bytes"]) if cost["bytes"] else "", hours(cost["core_hours"]))
    return *amounts, hours(cost["gpu_hours"]) if cost["gpu_hours"] else "", duration(cost["wall_s"])
