"""What is done of a run as its recipe is now, column by column, from receipts alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..rundir.receipt_table import Receipts
from ..rundir.rundir import RunDir
from .plan import NodePlan

_LATELY_NS = 600 * 10**9


@dataclass(frozen=True)
class ColumnStatus:
    """Counts of one column; `shards_total` is None until the steps before it have run.

    What is known to be replaced, removed or done again by the next run is not done.
    """

    shards_total: int | None
    shards_done: int
    samples_in: int
    samples_out: int
    drops: dict[str, int]
    failed: list[str]
    samples_per_s: float | None = None  # of late; None if nothing is going on
    left_s: float | None = None  # for the rest of the shards, at that pace


def column_status(run: RunDir, plans: Sequence[NodePlan]) -> dict[str, ColumnStatus]:
    """The status of every column that the planned nodes write, in their order."""
    statuses: dict[str, ColumnStatus] = {}
    for plan in plans:
        column = plan.node.step.writes.name
        if column in statuses:
            continue  # several nodes write one column: models
        stated = run.receipts(column)
        receipts = stated.without([shard for other in plans if _writes(other, column) for shard in _outdated(other)])
        statuses[column] = _status(stated, receipts, _total(plans, column, len(receipts)))
    return statuses


def stated_status(run: RunDir) -> dict[str, ColumnStatus]:
    """What receipts alone say of every column, for a recipe that cannot be built: not what is outdated or left."""
    return {column: _status(stated := run.receipts(column), stated, None) for column in run.columns()}


def _status(stated: Receipts, receipts: Receipts, total: int | None) -> ColumnStatus:
    """The status of a column with the receipts that count, of those that are there."""
    samples_in, samples_out = receipts.samples
    return ColumnStatus(
        shards_total=total,
        shards_done=len(receipts),
        samples_in=samples_in,
        samples_out=samples_out,
        drops=receipts.drops,
        failed=sorted(stated.failed),
        **_pace(receipts, total),
    )


def _pace(receipts: Receipts, total: int | None) -> dict[str, float]:
    """Rate and time left, from the times at which the receipts of the last minutes were written."""
    times_ns = receipts.table["receipt_mtime_ns"].to_numpy()
    if total is None or not 0 < len(receipts) < total or time.time_ns() - times_ns.max() > _LATELY_NS:
        return {}
    late = times_ns >= times_ns.max() - _LATELY_NS
    span_s = float(times_ns.max() - times_ns[late].min()) / 1e9
    if span_s <= 0:
        return {}
    samples_out = receipts.table["samples_out"].to_numpy()[late].sum()
    left_s = (total - len(receipts)) * span_s / late.sum()
    return {"samples_per_s": round(float(samples_out) / span_s, 3), "left_s": round(float(left_s), 1)}


def _total(plans: Sequence[NodePlan], column: str, done: int) -> int | None:
    """Shards of all nodes that write a column (several models, say); at least those that have a receipt."""
    counts = [plan.shards for plan in plans if _writes(plan, column)]
    if any(shards is None for shards in counts):
        return None
    return max(done, sum(len(shards or ()) for shards in counts))


def _writes(plan: NodePlan, column: str) -> bool:
    return plan.node.step.writes.name == column


def _outdated(plan: NodePlan) -> tuple[str, ...]:
    return plan.orphans if plan.waits else (*plan.pending, *plan.orphans)
