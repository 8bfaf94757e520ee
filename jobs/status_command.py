"""`dap status`: shards, samples and drops of every column."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from engine.plan import Planner
from engine.rundir import RunDir
from engine.status import ColumnStatus, column_status
from jobs.errors import EXIT_DONE
from jobs.job import open_saved_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per column, or one JSON document."""
    job = open_saved_job(RunDir(arguments.run_dir))
    statuses = column_status(job.run, Planner(job.graph, job.run).plan(job.nodes))
    if arguments.json:
        print(json.dumps({"columns": {name: dataclasses.asdict(status) for name, status in statuses.items()}}))
        return EXIT_DONE
    table = Table("column", "shards", "samples in", "samples out", "drops", "failed", title=job.run.uri)
    for name, status in statuses.items():
        table.add_row(name, *_row(status))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return EXIT_DONE


def _row(status: ColumnStatus) -> tuple[str, ...]:
    total = "?" if status.shards_total is None else str(status.shards_total)
    drops = ", ".join(f"{code} {count}" for code, count in sorted(status.drops.items()))
    shards = f"{status.shards_done}/{total}"
    return shards, str(status.samples_in), str(status.samples_out), drops, ", ".join(status.failed[:5])
