"""`dap verify`: every receipt against every output."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...engine.planning.graph import Graph
from ...engine.planning.recipe import RecipeError
from ...engine.rundir.rundir import RunDir
from ...engine.verification.verify import Advance, Verification, verify_run
from ..errors import EXIT_DONE, EXIT_FAILED
from ..job import check_run_dir, open_saved_job
from ..step_checks import RunStepChecks

LINE_EVERY_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def main(arguments: argparse.Namespace) -> int:
    """Prints `ok` or a line per problem; exit code 1 if there are any."""
    run = RunDir(check_run_dir(arguments.run_dir))
    graph, damage = _recipe_of(run)
    with _meter() as advance:
        found = verify_run(run, graph, RunStepChecks(run), advance=advance)
    found = Verification(sorted([*damage, *found.problems]), found.samples)
    if arguments.json:
        print(json.dumps({"ok": found.ok, "problems": found.problems, "samples": found.samples}))
    else:
        for problem in found.problems:
            print(problem)
        columns = ", ".join(f"{name} {count}" for name, count in found.samples.items())
        print(f"ok: {columns}" if found.ok else f"{len(found.problems)} problems")
    return EXIT_DONE if found.ok else EXIT_FAILED


def _recipe_of(run: RunDir) -> tuple[Graph | None, list[str]]:
    """The recipe that the run was made with; a damaged one is a problem of the run."""
    try:
        return open_saved_job(run).graph, []
    except RecipeError as error:
        return None, [str(error)]


@contextmanager
def _meter() -> Iterator[Advance]:
    """Says on stderr how far it is: a bar on a terminal, a line every so often elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console).advance
        return
    columns = (TextColumn("verify"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[read]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("verify", total=None, read="")
        yield lambda done, total, read: bar.update(task, completed=done, total=total, read=decimal(read))


@dataclass
class _Lines:
    console: Console
    said_s: float = field(default_factory=time.monotonic)

    def advance(self, done: int, total: int, read_bytes: int) -> None:
        if time.monotonic() - self.said_s > LINE_EVERY_S:
            self.said_s = time.monotonic()
            self.console.print(f"verify: {done}/{total} shards, {decimal(read_bytes)}", highlight=False)
