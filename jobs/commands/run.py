"""`dap run`: brings a run directory up to date with a recipe."""

from __future__ import annotations

import argparse
import socket
import sys

from ...engine.execution.runner import RunResult
from ...engine.execution.worker_log import FOLDER
from ...engine.rundir.listing import error_path
from ...engine.rundir.rundir import RunDir
from ...engine.steps.outcome import Outcome, cause_line
from ..begin import add_take_over_argument, begun
from ..errors import EXIT_DONE, EXIT_FAILED, EXIT_UNFINISHED, UsageError
from ..job import Job, add_recipe_arguments, bring_up_to_date, open_job
from .parts.drop_table import show_drops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_recipe_arguments(parser)
    add_take_over_argument(parser)
    parser.add_argument(
        "--metrics-port", type=int, metavar="N", help="where it, or a Ray of its own, serves Prometheus"
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs the recipe."""
    if arguments.metrics_port is not None:
        _check_port(arguments.metrics_port)
    return run_job(open_job(arguments), arguments.take_over, arguments.metrics_port)


def _check_port(port: int) -> None:
    try:
        with socket.socket() as free:
            free.bind(("", port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"--metrics-port {port}: {error}") from error


def run_job(job: Job, take_over: bool, metrics_port: int | None = None) -> int:
    """Brings a job up to date, in a run directory that is its own meanwhile; returns the exit code."""
    with begun(job, take_over):
        return report(bring_up_to_date(job, metrics_port=metrics_port), job.run)


def report(result: RunResult, run: RunDir) -> int:
    """Says what came of a run; returns the exit code."""
    failed = [outcome for outcome in result.unfinished if outcome.status == "failed"]
    for outcome in failed[:5]:
        print(
            f"failed: {outcome.node} {outcome.shard}: {cause_line(outcome.error)}{_where(run, outcome)}",
            file=sys.stderr,
        )
    if failed:
        print(f"logs of the workers: {run.storage.address(FOLDER)}", file=sys.stderr)
    if result.over_budget:
        print(f"stopped: {result.over_budget}", file=sys.stderr)
        show_drops(run, result.over_column)
        return EXIT_UNFINISHED
    if result.unfinished:
        rest = f", stopped at {result.stopped_at}" if result.stopped_at else ""
        waiting = len(result.unfinished) - len(failed)
        print(f"unfinished: {len(failed)} failed, {waiting} waiting for them{rest}", file=sys.stderr)
        return EXIT_UNFINISHED if result.shards_failed else EXIT_FAILED
    print(f"done: {result.worked} outputs made" if result.worked else "up to date: nothing to do", file=sys.stderr)
    return EXIT_DONE


def _where(run: RunDir, outcome: Outcome) -> str:
    """Where more is written of a failure, if anything is."""
    path = error_path(outcome.column, outcome.shard)
    return f" ({run.storage.address(path)})" if run.storage.size(path) is not None else ""
