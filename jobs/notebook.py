"""The engine from Python, for notebooks: recipes made of objects, runs, their status, and columns as iterators."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from ..engine.planning.plan import Planner
from ..engine.planning.recipe import Node, Recipe, RecipeError, load_recipe
from ..engine.planning.status import ColumnStatus, column_status
from ..engine.records.sample import Sample
from ..engine.rundir.receipts import Receipt
from ..engine.rundir.rundir import RunDir
from ..engine.steps.limits import Budget, Limits, Pool
from ..engine.steps.outcome import cause_line
from .begin import begun
from .errors import UsageError
from .job import bring_up_to_date, check_run_dir, job_from_text, open_saved_job
from .steps import STEPS, kind_of

__all__ = ["Budget", "Limits", "Node", "Pool", "Recipe", "RecipeError", "Run", "UnfinishedError", "make_recipe", "run"]


class UnfinishedError(RuntimeError):
    """A run in which something failed; the message says what, and the same call resumes."""


def make_recipe(*nodes: Node, name: str = "run", executor: str = "ray") -> Recipe:
    """A recipe of steps that are made in Python, as `Node("frames", Extract(height=512))`; raises RecipeError.

    It is what the command line would read from the recipe's YAML: `print(recipe.to_yaml())`.
    """
    steps = {node.name: _document(node) for node in nodes}
    if len(steps) < len(nodes):
        raise RecipeError("two steps have the same name")
    try:
        text = yaml.safe_dump({"name": name, "executor": executor, "steps": steps}, sort_keys=False)
    except yaml.YAMLError as error:
        raise RecipeError(f"a setting is no plain value: {' '.join(str(error).split())}") from error
    recipe = load_recipe(text, STEPS)
    for node, read in zip(nodes, recipe.nodes, strict=True):
        if node != read:
            raise RecipeError(f"step {node.name!r} cannot be written down: it would be read as {read.step}")
    return recipe


def run(
    recipe: Recipe, run_dir: str, *, only: Sequence[str] = (), until: str | None = None, take_over: bool = False
) -> Run:
    """Runs a recipe, or resumes it, as `dap run` does, which can go on with it: the recipe is saved in the run.

    Raises:
        RecipeError, UsageError, ResourceError: before any work.
        HeldError: another run works there; `take_over` ends that.
        UnfinishedError: something failed, or a step has passed its budget.
    """
    job = job_from_text(recipe.to_yaml(), run_dir)
    job = dataclasses.replace(job, nodes=job.graph.select(only, until))
    with begun(job, take_over):
        result = bring_up_to_date(job)
    if result.over_budget:
        raise UnfinishedError(f"stopped: {result.over_budget}")
    if result.unfinished:
        first = result.unfinished[0]
        why = cause_line(first.error) if first.error else first.status
        raise UnfinishedError(f"{len(result.unfinished)} unfinished, first {first.node} {first.shard}: {why}")
    return Run(job.run.uri)


class Run:
    """A run directory to look into: a folder, s3://… or gs://…"""

    def __init__(self, run_dir: str) -> None:
        self._run = RunDir(check_run_dir(run_dir))  # resolved now: a notebook may change its folder

    def status(self) -> dict[str, ColumnStatus]:
        """Shards, samples and drops of every column, as `dap status` shows them; raises UsageError, RecipeError."""
        job = open_saved_job(self._run)
        return column_status(job.run, Planner(job.graph, job.run).plan(job.nodes))

    def samples(self, *columns: str) -> Iterator[Sample]:
        """The samples that all the columns have, shard by shard: `sample["frames"]["jpg"]` is a field of a column.

        Raises:
            UsageError: no column is given, or nothing is in one.
        """
        if not columns:
            raise UsageError("samples of which columns? Give one or more, as samples('frames')")
        receipts = [self._receipts(column) for column in columns]
        for shard in sorted(set.intersection(*map(set, receipts))):
            of_shard = [each[shard] for each in receipts]
            if len(of_shard) > 1:
                yield from self._run.samples(of_shard)
            else:  # whose keys need not rise
                yield from (Sample(row.key, {columns[0]: row.fields}) for row in self._run.rows(of_shard[0]))

    def _receipts(self, column: str) -> dict[str, Receipt]:
        """By shard; of a packed column its tars, without what lists them."""
        if not (receipts := dict(self._run.receipts(column))):
            there = ", ".join(self._run.columns()) or "nothing"
            raise UsageError(f"{self._run.uri} has nothing in a column {column!r}; it has {there}")
        tars = {shard: receipt for shard, receipt in receipts.items() if receipt.output.path.endswith(".tar")}
        return tars or receipts


def _document(node: Node) -> dict[str, Any]:
    """A step as it stands in a recipe."""
    document = {"step": kind_of(type(node.step)), **_changed(node.step)}
    allowances = {key: _changed(getattr(node, key)) for key in ("pool", "limits", "budget")}
    return document | {key: settings for key, settings in allowances.items() if settings}


def _changed(settings: Any) -> dict[str, Any]:
    """The settings of a dataclass that are not its defaults, as plain values."""
    plain = dataclasses.asdict(settings)
    return {
        entry.name: plain[entry.name]
        for entry in dataclasses.fields(settings)
        if entry.init and getattr(settings, entry.name) != _default(entry)
    }


def _default(entry: dataclasses.Field[Any]) -> Any:
    return entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
