"""`dap plan`: what would run, and why. With `--probe`, what it will take: a few samples go through every map stage.

Without `--probe` it needs no cluster and opens no shard. Nothing is ever written to the run directory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...engine.execution.executor import InProcessExecutor
from ...engine.execution.placement import Machine
from ...engine.execution.runner import check_nodes
from ...engine.planning.plan import NodePlan, Planner, is_map
from ...engine.planning.recipe import Recipe
from ...engine.probing.forecast import Forecast, forecast
from ...engine.probing.probe import Probe, Probed
from ..errors import EXIT_DONE
from ..job import Job, add_recipe_arguments, make_executor, open_job
from .parts.plan_report import forecast_document, plan_document, print_forecast, print_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_recipe_arguments(parser)
    parser.add_argument("--probe", action="store_true", help="try a few samples at every stage and predict the run")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per step, or one JSON document."""
    job = open_job(arguments)
    check_nodes(job.nodes, may_be_unreachable=True)  # a plan is worth having far from the storage, too
    plans = Planner(job.graph, job.run).plan(job.nodes)
    machines = _machines(job.recipe, plans) if arguments.probe else ()
    document = plan_document(job.recipe.name, job.run.uri, plans)
    if not arguments.json:
        print_plan(document)
    if arguments.probe:
        probed, predicted = _probe(job, machines)
        left_out = [plan.node.name for plan in plans if not plan.done and not is_map(plan.node)]
        document["probe"] = forecast_document(probed, predicted, machines, left_out)
        if not arguments.json:
            print_forecast(probed, predicted, left_out)
    if arguments.json:
        print(json.dumps(document))
    return EXIT_DONE


def _machines(recipe: Recipe, plans: Sequence[NodePlan]) -> Sequence[Machine]:
    """The nodes of the cluster at hand, none for a run in one process; raises ResourceError for what never fits."""
    executor = make_executor(recipe)
    try:
        executor.check({plan.node.name: pool for plan in plans if not plan.done and (pool := plan.node.workers)})
        if isinstance(executor, InProcessExecutor):
            return ()
        from ...engine.execution.ray_executor import machines

        return machines()
    finally:
        executor.close()


def _probe(job: Job, machines: Sequence[Machine]) -> tuple[list[Probed], Forecast]:
    with tempfile.TemporaryDirectory(prefix="dap-probe-") as folder:
        probe = Probe(job.graph, job.run, Path(folder), log=lambda line: print(line, file=sys.stderr))
        probed = probe.run(job.nodes)
        return probed, forecast(probed, probe.plans, job.graph.chains(job.nodes), probe.samples, machines)
