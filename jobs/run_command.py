"""`dap run`: brings a run directory up to date with a recipe."""

from __future__ import annotations

import argparse
import sys

from engine.progress import Progress
from engine.runner import Runner, RunResult, check_nodes, save_recipe
from jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_UNFINISHED
from jobs.job import Job, add_recipe_arguments, make_executor, open_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_recipe_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Runs the recipe."""
    return run_job(open_job(arguments))


def run_job(job: Job) -> int:
    """Checks everything first, then runs; what is up to date is left alone. Returns the exit code."""
    check_nodes(job.nodes)
    job.run.storage.sweep_scratch()
    save_recipe(job.recipe, job.run)
    progress = Progress()
    result = Runner(job.graph, job.run, lambda: make_executor(job.recipe), progress).run(job.nodes)
    return _report(result, job.run.uri)


def _report(result: RunResult, uri: str) -> int:
    failed = [outcome for outcome in result.unfinished if outcome.status == "failed"]
    for outcome in failed[:5]:
        where = f"{uri.rstrip('/')}/receipts/{outcome.column}/{outcome.shard}.error.json"
        print(f"failed: {outcome.node} {outcome.shard}: {_last_line(outcome.error)} ({where})", file=sys.stderr)
    if result.unfinished:
        rest = f", stopped at {result.stopped_at}" if result.stopped_at else ""
        waiting = len(result.unfinished) - len(failed)
        print(f"unfinished: {len(failed)} failed, {waiting} waiting for them{rest}", file=sys.stderr)
        return EXIT_UNFINISHED if result.shards_failed else EXIT_FAILED
    print(f"done: {result.worked} outputs made" if result.worked else "up to date: nothing to do", file=sys.stderr)
    return EXIT_DONE


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
