"""`dap plan`: what would run, and why; what it will take, by a probe or by a table of rates; what data cannot fill.

With `--probe` a few samples go through every map stage. `--nodes` names a cluster that need not be there: what every
step takes on it. Without `--probe` no cluster is needed and no shard is opened, without `--run-dir` no run either.
Nothing is ever written to the run directory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...engine.execution.executor import InProcessExecutor
from ...engine.execution.placement import Machine
from ...engine.execution.runner import check_nodes
from ...engine.planning.plan import NodePlan, Planner, is_map
from ...engine.planning.recipe import Recipe
from ...engine.probing.forecast import Forecast, forecast
from ...engine.probing.probe import Probe, Probed
from ..cost.nodes import Nodes, parse_nodes
from ..cost.quotas import quota_warnings
from ..errors import EXIT_DONE
from ..job import Job, add_recipe_arguments, make_executor, open_job
from .parts.plan_report import (
    costs_document,
    forecast_document,
    plan_document,
    print_costs,
    print_forecast,
    print_plan,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_recipe_arguments(parser, run_dir_is_needed=False)
    parser.add_argument("--probe", action="store_true", help="try a few samples at every stage and predict the run")
    parser.add_argument(
        "--nodes",
        metavar="CLUSTER",
        help='what every step takes on such a cluster, which need not be there: "8x(8 H100, 192 CPU)"',
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per step, or one JSON document."""
    with tempfile.TemporaryDirectory(prefix="dap-plan-") as nowhere:
        arguments.run_dir, is_new = arguments.run_dir or nowhere, not arguments.run_dir
        return _main(arguments, is_new)


def _main(arguments: argparse.Namespace, is_new: bool) -> int:
    nodes = parse_nodes(arguments.nodes) if arguments.nodes else None
    job = open_job(arguments)
    check_nodes(job.nodes, may_be_unreachable=True)  # a plan is worth having far from the storage, too
    plans = Planner(job.graph, job.run).plan(job.nodes)
    machines = _machines(job.recipe, plans) if arguments.probe and not nodes else ()
    document = plan_document(job.recipe.name, "a new run" if is_new else job.run.uri, plans)
    document["warnings"] = list(quota_warnings(job, plans))
    if not arguments.json:
        print_plan(document)
    if nodes:
        document["cost"] = _cost(job, nodes, arguments)
        if not arguments.json:
            print_costs(document["cost"])
    elif arguments.probe:
        probed, predicted = _probe(job, machines)
        left_out = [plan.node.name for plan in plans if not plan.done and not is_map(plan.node)]
        document["probe"] = forecast_document(probed, predicted, machines, left_out)
        if not arguments.json:
            print_forecast(probed, predicted, left_out)
    if arguments.json:
        print(json.dumps(document))
    return EXIT_DONE


def _cost(job: Job, nodes: Nodes, arguments: argparse.Namespace) -> dict[str, Any]:
    """What every step takes on the nodes named; a probe goes before the table of rates."""
    from ..cost.estimate import estimate

    with tempfile.TemporaryDirectory(prefix="dap-probe-") as folder:
        probe = _make_probe(job, folder)
        if arguments.probe:
            probed = probe.run(job.nodes)
        else:
            probe.look(job.nodes)
            probed = []
        return costs_document(arguments.nodes, estimate(job, nodes, probe, probed))


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
        probe = _make_probe(job, folder)
        probed = probe.run(job.nodes)
        return probed, forecast(probed, probe.plans, job.graph.chains(job.nodes), probe.samples, machines)


def _make_probe(job: Job, folder: str) -> Probe:
    in_process = job.recipe.executor == "in-process"
    return Probe(job.graph, job.run, Path(folder), lambda line: print(line, file=sys.stderr), in_process=in_process)
