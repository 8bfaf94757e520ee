"""`dap report`: a run as a static site that opens from disk, with a 360° viewer."""

from __future__ import annotations

import argparse

from ...engine.rundir.rundir import RunDir
from ..errors import EXIT_DONE, UsageError
from ..job import check_run_dir
from ..report.build import build_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument(
        "--out",
        default="dap-report",
        metavar="DIR",
        help="where the site goes (default: dap-report); replaces a report",
    )
    parser.add_argument("--model", metavar="M", help="measure a model of the run, or any that `dap evaluate` takes, …")
    parser.add_argument("--data", metavar="COLUMN", help="… on this labelled column, and show the worst images")


def main(arguments: argparse.Namespace) -> int:
    """Writes the site and prints where it begins."""
    if bool(arguments.model) != bool(arguments.data):
        raise UsageError("--model and --data go together: a model, and the labelled column to measure it on")
    run = RunDir(check_run_dir(arguments.run_dir))
    if run.storage.size("run.yaml") is None:
        raise UsageError(f"{run.uri}: no run directory (it has no run.yaml)")
    measured = (arguments.model, arguments.data) if arguments.model else None
    print(build_report(run, arguments.out, measured))
    return EXIT_DONE
