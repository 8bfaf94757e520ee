"""`dap verify`: every receipt against every output."""

from __future__ import annotations

import argparse
import json

from engine.rundir import RunDir
from engine.verify import verify_run
from jobs.errors import EXIT_DONE, EXIT_FAILED, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints `ok` or a line per problem; exit code 1 if there are any."""
    run = RunDir(arguments.run_dir)
    if run.storage.size("run.yaml") is None:
        raise UsageError(f"{run.uri}: no run directory (it has no run.yaml)")
    found = verify_run(run)
    if arguments.json:
        print(json.dumps({"ok": found.ok, "problems": found.problems, "samples": found.samples}))
    else:
        for problem in found.problems:
            print(problem)
        columns = ", ".join(f"{name} {count}" for name, count in found.samples.items())
        print(f"ok: {columns}" if found.ok else f"{len(found.problems)} problems")
    return EXIT_DONE if found.ok else EXIT_FAILED
