"""`dap status`: shards, samples and drops of every column."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from rich.table import Table

from ...engine.execution.worker_log import FOLDER
from ...engine.planning.own_steps import OwnStepError
from ...engine.planning.plan import Planner
from ...engine.planning.status import ColumnStatus, column_status, stated_status
from ...engine.quantities import duration
from ...engine.rundir.rundir import RunDir
from ..errors import EXIT_DONE
from ..job import check_run_dir, open_saved_job
from ..tables import show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per column, or one JSON document."""
    run = RunDir(check_run_dir(arguments.run_dir))
    try:
        job = open_saved_job(run)
        statuses = column_status(run, Planner(job.graph, run).plan(job.nodes))
    except OwnStepError as error:  # as on another machine than that of the run
        print(f"dap status: {error}; the receipts alone say this:", file=sys.stderr)
        statuses = stated_status(run)
    logs = run.storage.address(FOLDER)
    if arguments.json:
        columns = {name: dataclasses.asdict(status) for name, status in statuses.items()}
        print(json.dumps({"columns": columns, "logs": logs}))
        return EXIT_DONE
    table = Table("column", "shards", "samples in", "samples out", "drops", "failed", "pace", title=run.uri)
    for name, status in statuses.items():
        table.add_row(name, *_row(status))
    show_table(table)
    print(f"logs of the workers: {logs}")
    return EXIT_DONE


def _row(status: ColumnStatus) -> tuple[str, ...]:
    total = "?" if status.shards_total is None else str(status.shards_total)
    drops = ", ".join(f"{code} {count}" for code, count in sorted(status.drops.items()))
    shards = f"{status.shards_done}/{total}"
    failed = ", ".join(status.failed[:5]) + (f" and {len(status.failed) - 5} more" if len(status.failed) > 5 else "")
    return shards, str(status.samples_in), str(status.samples_out), drops, failed, _pace(status)


def _pace(status: ColumnStatus) -> str:
    if status.samples_per_s is None or status.left_s is None:
        return ""
    return f"{status.samples_per_s:.3g}/s, {duration(status.left_s)} left"
