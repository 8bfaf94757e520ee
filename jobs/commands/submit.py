"""`dap submit`: a run as a job of a Ray cluster, from any machine that reaches the cluster's job server."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from ...engine.planning.graph import build_graph
from ...engine.planning.recipe import Recipe, load_recipe
from ...engine.storage.object_store import check_store
from ...engine.storage.place import Place, without_secrets
from ..begin import add_take_over_argument
from ..errors import EXIT_DONE, UsageError
from ..job import add_recipe_arguments, read_recipe
from ..steps import STEPS
from ..submission.luggage import pack_luggage

_EPILOG = """
The recipe and the modules of your own steps travel with the job. All paths in it are those of the cluster: the run
directory and the videos lie where every node sees them. The package is that of the cluster's image; --with-package
sends this one along, but not what it needs. The same command again resumes a run whose job has ended.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.epilog = _EPILOG
    add_recipe_arguments(parser, is_needed=False)
    parser.add_argument("--address", required=True, metavar="http://HEAD:8265", help="the cluster's job server")
    parser.add_argument("--retry", metavar="COLUMN", help="put dropped or failed work of a column back, and do it")
    parser.add_argument("--code", metavar="X", help="with --retry: only drops of this code")
    parser.add_argument("--wait", action="store_true", help="show the job's log; end with its exit code")
    parser.add_argument("--with-package", action="store_true", help="send this installation's code along")
    add_take_over_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Submits the job and says how to follow, stop and resume it; prints its id on stdout."""
    run_dir, text, recipe = _check(arguments)
    from ..submission.job_server import JobServer  # importing Ray costs seconds: only when all else is right

    server = JobServer(arguments.address.rstrip("/"))
    if not arguments.take_over and (other := server.job_at_work(run_dir)):
        raise UsageError(f"{without_secrets(run_dir)} is held by job {other}; --take-over ends that")
    name = recipe.name if recipe else f"retry-{arguments.retry}"
    job = f"dap-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"
    with tempfile.TemporaryDirectory() as folder:
        steps = [type(node.step) for node in recipe.nodes] if recipe else []
        pack_luggage(Path(folder), text, steps, arguments.with_package)
        server.submit(_command(arguments, run_dir), job, run_dir, Path(folder), _say)
    print(job, flush=True)
    there = f"{job} --address {shlex.quote(arguments.address)}"
    _say(f"follow: dap status --run-dir {shlex.quote(run_dir)} --watch")
    _say(f"log:    ray job logs {there} --follow")
    _say(f"stop:   ray job stop {there}")
    _say("resume: the same command")
    if not arguments.wait:
        return EXIT_DONE
    try:
        return server.follow(job, _write)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the job goes on; ray job stop {there} ends it") from None


def _check(arguments: argparse.Namespace) -> tuple[str, str, Recipe | None]:
    """The run directory, and the recipe as text and as steps; raises UsageError, RecipeError for all that is wrong.

    Nothing is looked for: what a recipe names is on the cluster.
    """
    if not arguments.address.startswith(("http://", "https://")):
        raise UsageError(f"--address {arguments.address}: give http://HEAD:8265, the address of the job server")
    if not arguments.recipe and not arguments.retry:
        raise UsageError("give a RECIPE, or --retry COLUMN")
    if arguments.code and not arguments.retry:
        raise UsageError("--code is one of drops that are tried again: give --retry COLUMN, too")
    if arguments.retry and (arguments.only or arguments.until or arguments.overrides):
        raise UsageError("--retry does one step, with the settings of the run: leave --only, --until and --set out")
    try:
        place = Place.parse(arguments.run_dir).absolute()
        if not place.is_local:
            check_store(place)
    except ValueError as error:
        raise UsageError(f"--run-dir {without_secrets(arguments.run_dir)}: {error}") from error
    if not arguments.recipe:
        return str(place), "", None
    text = read_recipe(arguments.recipe)
    recipe = load_recipe(text, STEPS, arguments.overrides, arguments.recipe)
    build_graph(recipe.nodes).select([name for name in arguments.only.split(",") if name], arguments.until)
    return str(place), text, recipe


def _command(arguments: argparse.Namespace, run_dir: str) -> str:
    """What the job does, as a shell reads it."""
    words = ["python", "-m", "dap_engine.jobs"]
    if arguments.retry:
        words += ["retry", "--run-dir", run_dir, "--column", arguments.retry]
        words += ["--code", arguments.code] if arguments.code else []
    else:
        words += ["run", "recipe.yaml", "--run-dir", run_dir]
        words += ["--only", arguments.only] if arguments.only else []
        words += ["--until", arguments.until] if arguments.until else []
        words += [word for override in arguments.overrides for word in ("--set", override)]
    return shlex.join([*words, *(["--take-over"] if arguments.take_over else [])])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
