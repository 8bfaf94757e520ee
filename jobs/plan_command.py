"""`dap plan`: what would run, and why. Needs no cluster, and opens no shard."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from engine.assets import RUN_SCHEME
from engine.plan import NodePlan, Planner
from engine.runner import check_nodes
from jobs.errors import EXIT_DONE
from jobs.job import add_recipe_arguments, open_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_recipe_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per step."""
    job = open_job(arguments)
    check_nodes(job.nodes, may_be_unreachable=True)  # a plan is worth having far from the storage, too
    plans = Planner(job.graph, job.run).plan(job.nodes)
    table = Table("step", "kind", "reads", "writes", "to do", "of", "why", title=f"{job.recipe.name} in {job.run.uri}")
    for plan in plans:
        table.add_row(*_row(plan))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return EXIT_DONE


def _row(plan: NodePlan) -> tuple[str, ...]:
    step = plan.node.step
    reads = ", ".join(name for name in (*step.reads, *step.assets().values()) if name != RUN_SCHEME)
    left = "?" if plan.shards is None else str(len(plan.pending))
    total = "?" if plan.shards is None else str(len(plan.shards))
    why = "; ".join(plan.reasons) or "up to date"
    return plan.node.name, step.name, reads, step.produces, left, total, why
