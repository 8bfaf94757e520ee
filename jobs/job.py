"""Opening recipes: a file, or the name of one that comes with the package."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ..engine.execution.executor import Executor, InProcessExecutor
from ..engine.execution.progress import Progress
from ..engine.execution.runner import Runner, RunResult, save_recipe
from ..engine.planning.graph import Graph, build_graph
from ..engine.planning.plan import Planner, is_map
from ..engine.planning.recipe import Node, Recipe, RecipeError, load_recipe
from ..engine.rundir.rundir import RunDir
from ..engine.storage.object_store import check_store
from ..engine.storage.place import Place, without_secrets
from ..engine.storage.storage import Storage
from .errors import UsageError
from .metrics_server import serve_metrics
from .steps import STEPS


@dataclass(frozen=True)
class Job:
    """A recipe opened against a run directory."""

    recipe: Recipe
    graph: Graph
    nodes: list[Node]
    run: RunDir


def add_recipe_arguments(
    parser: argparse.ArgumentParser, is_needed: bool = True, *, run_dir_is_needed: bool = True
) -> None:
    """The arguments that `open_job` reads. `is_needed`: there must be a recipe."""
    count = None if is_needed else "?"
    parser.add_argument("recipe", nargs=count, metavar="RECIPE", help="a recipe file, or the name of a built-in one")
    parser.add_argument(
        "--run-dir", required=run_dir_is_needed, metavar="URI", help="where the run lives: a folder, s3://… or gs://…"
    )
    parser.add_argument("--only", default="", metavar="A,B", help="run just these steps")
    parser.add_argument("--until", metavar="X", help="run this step and all it needs")
    parser.add_argument("--set", action="append", default=[], metavar="STEP.KEY=VALUE", dest="overrides")


def open_job(arguments: argparse.Namespace) -> Job:
    """Reads and checks the recipe; raises UsageError or RecipeError."""
    job = job_from_text(read_recipe(arguments.recipe), arguments.run_dir, arguments.overrides, arguments.recipe)
    only = [name for name in arguments.only.split(",") if name]
    return dataclasses.replace(job, nodes=job.graph.select(only, arguments.until))


def job_from_text(text: str, run_dir: str, overrides: Sequence[str] = (), file: str = "recipe") -> Job:
    """The whole recipe of a text, read in `file`; raises RecipeError, UsageError."""
    place = check_run_dir(run_dir)
    recipe = load_recipe(text, STEPS, overrides, file)
    graph = build_graph(recipe.nodes)
    return Job(recipe, graph, list(graph.nodes), RunDir(place))


def check_run_dir(run_dir: str) -> str:
    """The URI of a run directory, a local one as a whole path; raises UsageError for what can be none."""
    if not run_dir or run_dir.startswith("file:"):
        raise UsageError(f"--run-dir {run_dir!r}: give a folder, s3://… or gs://…")
    uri = check_place("--run-dir", run_dir)
    if Path(uri).is_file():
        raise UsageError(f"{run_dir}: is a file, not a run directory")
    return uri


def check_place(option: str, text: str) -> str:
    """The URI of a folder here (whole: workers have working folders of their own), or of a store that answers.

    Raises UsageError for what can be neither, StorageError where nothing answers.
    """
    try:
        place = Place.parse(text).absolute()
        if not place.is_local:
            check_store(place)
    except ValueError as error:
        raise UsageError(f"{option} {without_secrets(text)}: {error}") from error
    if place.is_local:
        return place.path
    Storage(str(place)).check_answers()
    return str(place)


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{place}: is no text: {error}") from error


def open_saved_job(run: RunDir) -> Job:
    """The recipe that a run directory was made with; raises UsageError if there is none."""
    try:
        text = _text(run.storage.read_bytes("run.yaml"), f"{run.uri}/run.yaml")
    except FileNotFoundError as error:
        raise UsageError(f"{run.uri}: no run directory (it has no run.yaml)") from error
    try:
        return job_from_text(text, run.uri, file="run.yaml")
    except RecipeError as error:
        error.args = (f"{run.uri}/run.yaml: {error}",)
        raise


def read_recipe(name: str) -> str:
    """The text of a recipe file or of a built-in recipe."""
    if Path(name).is_file():
        return _text(Path(name).read_bytes(), name)
    entries = resources.files("dap_engine.jobs").joinpath("recipes").iterdir()
    built_in = {Path(entry.name).stem: entry for entry in entries if entry.name.endswith(".yaml")}
    if name in built_in:
        return built_in[name].read_text()
    raise UsageError(f"no recipe {name!r}: neither a file nor one of {sorted(built_in)}")


def bring_up_to_date(job: Job, shards: Collection[str] | None = None, metrics_port: int | None = None) -> RunResult:
    """Saves the recipe, then runs, within `begun`; what is up to date is left alone.

    `shards`: map stages leave all others as they are. Raises UsageError if outputs of another recipe might be removed.
    """
    _check_that_nothing_of_another_is_removed(job)
    job.run.storage.clean_scratch()
    save_recipe(job.recipe, job.run)
    progress = Progress()

    def make() -> Executor:
        return make_executor(job.recipe, metrics_port, lambda line: progress.log("cluster", line))

    runner = Runner(job.graph, job.run, make, progress, shards, launch_ranks)
    with serve_metrics(metrics_port if job.recipe.executor == "in-process" else None):
        return runner.run(job.nodes)


def _check_that_nothing_of_another_is_removed(job: Job) -> None:
    """Raises UsageError where the run is of a recipe of another name, and this one might remove outputs of it."""
    try:
        saved = yaml.safe_load(job.run.storage.read_bytes("run.yaml"))["name"]
    except (FileNotFoundError, yaml.YAMLError, TypeError, KeyError):  # a new one, or of no known recipe
        return
    if saved == job.recipe.name:
        return
    planner = Planner(job.graph, job.run)
    at_stake = sum(
        len(planner.all_receipts(plan.node.step.writes.name) if plan.shards is None else plan.orphans)
        for plan in planner.plan(job.nodes)
        if is_map(plan.node)
    )
    if at_stake:
        raise UsageError(
            f"{without_secrets(job.run.uri)}: is of the recipe {saved!r}, and {at_stake} of its outputs might be "
            f"removed: give another --run-dir, or --set name={saved} if that is meant"
        )


def launch_ranks(task: Any, folder: Path, log: Callable[[str], None]) -> dict[str, float]:
    """Trains on the workers of a Ray cluster; see `train_on_ray`."""
    from .ray_train import train_on_ray  # importing Ray costs seconds: only when there is work for it

    return train_on_ray(task, folder, log)


def make_executor(
    recipe: Recipe, metrics_port: int | None = None, log: Callable[[str], None] | None = None
) -> Executor:
    """The executor that the recipe names; without a `log`, it does not wait for what a cluster lacks."""
    if recipe.executor == "in-process":
        return InProcessExecutor()
    from ..engine.execution.ray_executor import (
        RayExecutor,  # starting Ray costs seconds: only when there is work for it
    )

    steps = [type(node.step) for node in recipe.nodes]
    if log is None:
        return RayExecutor(metrics_port=metrics_port, steps=steps)
    return RayExecutor(metrics_port=metrics_port, steps=steps, wait_s=recipe.cluster.wait_s, log=log)
