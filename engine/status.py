"""What has been done so far, column by column, from receipts alone: each column is read once, and let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.plan import NodePlan
from engine.rundir import RunDir


@dataclass(frozen=True)
class ColumnStatus:
    """Counts of one column; `shards_total` is None until the steps before it have run."""

    shards_total: int | None
    shards_done: int
    samples_in: int
    samples_out: int
    drops: dict[str, int]
    failed: list[str]


def column_status(run: RunDir, plans: Sequence[NodePlan]) -> dict[str, ColumnStatus]:
    """The status of every column that the planned nodes write, in their order."""
    statuses: dict[str, ColumnStatus] = {}
    for plan in plans:
        column = plan.node.step.writes.name
        if column in statuses:
            continue  # several nodes write one column: models
        receipts = run.receipts(column)
        samples_in, samples_out = receipts.samples
        statuses[column] = ColumnStatus(
            shards_total=_total(plans, column, len(receipts)),
            shards_done=len(receipts),
            samples_in=samples_in,
            samples_out=samples_out,
            drops=receipts.drops,
            failed=sorted(receipts.failed),
        )
    return statuses


def _total(plans: Sequence[NodePlan], column: str, done: int) -> int | None:
    """Shards of all nodes that write a column (several models, say); at least those that have a receipt."""
    counts = [plan.shards for plan in plans if plan.node.step.writes.name == column]
    if any(shards is None for shards in counts):
        return None
    return max(done, sum(len(shards or ()) for shards in counts))
