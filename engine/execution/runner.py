"""Runs a recipe's nodes in order: what is up to date is left alone, chains go to the executor, barriers run here."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import pyarrow as pa

from ..meters import measure, measure_outcome
from ..planning.graph import Graph
from ..planning.plan import NodePlan, Planner, is_map
from ..planning.recipe import Node, Recipe, RecipeError
from ..rundir.commit import clean_claims, clear_failure, delete_output
from ..rundir.index import IndexWriter
from ..rundir.rundir import RunDir
from ..steps.assets import AssetCache, check_asset, resolve_asset
from ..steps.barrier import Barrier, BarrierError, Launcher
from ..steps.outcome import Outcome, cause_line, failed
from ..steps.step import SourceStage, Stage, UnreachableError
from .budget import BudgetTracker
from .executor import Executor
from .placement import ResourceError
from .progress import Progress
from .run_shard import StageSpec


@dataclass
class RunResult:
    """What a run did."""

    worked: int = 0  # shards and barrier outputs made
    unfinished: list[Outcome] = field(default_factory=list)  # failed, or waiting for something that failed
    stopped_at: str = ""  # the node whose failure kept later ones from running
    over_budget: str = ""  # which bound of its budget a stage has passed
    over_column: str = ""  # what that stage writes

    @property
    def shards_failed(self) -> bool:
        """Whether shards failed, rather than a barrier or a stage as a whole."""
        if any(outcome.fatal for outcome in self.unfinished):
            return False
        return any(outcome.status == "failed" and outcome.node != self.stopped_at for outcome in self.unfinished)


@dataclass(frozen=True)
class _ChainWork:
    """What is to be done on a chain."""

    lanes: Sequence[tuple[Sequence[StageSpec], Sequence[str]]]  # stages, and the shards to do that all of them have
    to_do: Mapping[str, set[str]]  # shards by node
    budgets: Mapping[str, BudgetTracker]  # by node


class Runner:
    """Runs selected nodes of one graph in one run directory. The executor is made only when there is work for it."""

    def __init__(
        self,
        graph: Graph,
        run: RunDir,
        make_executor: Callable[[], Executor],
        progress: Progress,
        shards: Collection[str] | None = None,
        launch_ranks: Launcher | None = None,
    ) -> None:
        """`shards`: map stages leave all others as they are. `launch_ranks`: for trainings on several workers."""
        self._graph, self._run, self._make_executor, self._progress = graph, run, make_executor, progress
        self._shards, self._launch_ranks = shards, launch_ranks or _no_launcher
        self._executor: Executor | None = None
        self._index, self._result = IndexWriter(run.storage), RunResult()

    def run(self, nodes: Sequence[Node]) -> RunResult:
        """Brings the nodes up to date, in order. A failed shard is left behind; a barrier without its inputs stops.

        Raises:
            ResourceError: a stage that has work needs more than the cluster has; nothing was begun.
            ClusterError: the cluster was lost, or what runs on it raises; the same command resumes.
        """
        try:
            if self._has_work(nodes):
                for group in self._graph.chains(nodes):
                    done = self._run_chain(group) if is_map(group[0]) else self._run_barrier(group[0])
                    if not done:
                        self._result.stopped_at = self._result.stopped_at or group[0].name
                        break
            return self._result
        finally:
            self._progress.close()
            if self._executor:
                self._executor.close()

    def _has_work(self, nodes: Sequence[Node]) -> bool:
        """Whether there is anything to do; refuses what cannot be done. What it reads is let go before work begins."""
        planner = Planner(self._graph, self._run, keeps_index=True)
        plans = planner.plan(nodes)
        for plan in plans:
            column = plan.node.step.writes.name
            if is_map(plan.node) and planner.all_receipts(column).claimed:
                clean_claims(self._run, column)
        if all(plan.done and not plan.orphans for plan in plans):
            for plan in plans:
                self._announce(plan)
                self._progress.finish(plan.node.name)
            return False
        if pools := {plan.node.name: pool for plan in plans if not plan.done and (pool := plan.node.workers)}:
            self._get_executor().check(pools)
        return True

    def _run_chain(self, chain: Sequence[Node]) -> bool:
        """Brings a chain of map stages up to date; False if it cannot begin, or a budget is spent."""
        work = self._prepare(chain)
        if work is None:
            return False
        pa.default_memory_pool().release_unused()  # all that was read to prepare it, and a chain may take days
        for specs, shards in work.lanes:
            if not (self._result.over_budget or self._result.stopped_at):
                self._consume(specs, shards, work)
        for node in chain:
            self._progress.finish(node.name)
        return not (self._result.over_budget or self._result.stopped_at)

    def _prepare(self, chain: Sequence[Node]) -> _ChainWork | None:
        """What is to be done; None if the chain cannot begin. Receipts read for this are released on return."""
        planner = Planner(self._graph, self._run)
        barriers = {need.name: need for node in chain for need in self._graph.needs(node) if not is_map(need)}
        if missing := self._missing_input(list(barriers.values()), planner):
            return self._cannot_begin(chain[0], missing)
        plans = planner.plan(chain)
        if unknown := next((plan for plan in plans if plan.shards is None), None):
            why = f"{unknown.node.name}: its shards are not known: " + "; ".join(unknown.reasons)
            return self._cannot_begin(chain[0], why)
        specs: dict[str, StageSpec] = {}
        for node in chain:
            try:
                specs[node.name] = StageSpec.of(node, planner.assets(node) or {})
            except Exception:  # noqa: BLE001 - of whatever kind: a stage that does not pickle runs nowhere
                self._fail(node, traceback.format_exc())
                return None
        pending = {shard for plan in plans for shard in plan.pending if self._shards is None or shard in self._shards}
        for plan in plans:
            self._delete_orphans(plan, planner)
            self._announce(plan)
        budgets = {plan.node.name: _used_budget(plan, planner, pending) for plan in plans}
        for plan in plans:  # beyond its budget a stage stays, until the recipe gives it more or work is put back
            self._check_budget(budgets[plan.node.name], plan.node.name, plan.node.step.writes.name)
        held = {plan.node.name: frozenset(plan.shards or ()) for plan in plans}
        lanes: dict[tuple[str, ...], list[str]] = {}
        for shard in sorted(pending):
            lanes.setdefault(tuple(name for name in held if shard in held[name]), []).append(shard)
        work = [([specs[name] for name in names], shards) for names, shards in lanes.items()]
        return _ChainWork(work, {plan.node.name: set(plan.pending) for plan in plans}, budgets)

    def _check_budget(self, used: BudgetTracker, node: str, column: str) -> None:
        if passed := used.passed():
            self._result.over_budget, self._result.over_column = f"{node}: {passed}", column

    def _delete_orphans(self, plan: NodePlan, planner: Planner) -> None:
        """Removes shards that the recipe has no more, such as those of a larger run before."""
        column = plan.node.step.writes.name
        there = planner.all_receipts(column)
        if plan.orphans:
            self._progress.log(
                plan.node.name, f"removes {len(plan.orphans)} outputs of shards that the recipe has no more"
            )
        for shard in plan.orphans:
            delete_output(self._run, there[shard])
        for shard in planner.receipts(column).failed - set(plan.shards or ()):
            clear_failure(self._run, column, shard)

    def _announce(self, plan: NodePlan) -> None:
        total = len(plan.shards or ())
        done = total - len(plan.pending)
        self._progress.start(plan.node.name, total, done, plan.reasons, by_shard=is_map(plan.node))
        if plan.pending and isinstance(plan.node.step, SourceStage):
            for line in plan.node.step.notes:
                self._progress.log(plan.node.name, line)

    def _consume(self, specs: Sequence[StageSpec], shards: Sequence[str], work: _ChainWork) -> None:
        """Runs a lane and takes in what comes of its shards, until a stage has passed its budget or cannot begin."""
        following = {spec.node: after.node for spec, after in pairwise(specs)}
        queued = {spec.node: 0 for spec in specs} | {specs[0].node: len(shards)}
        for outcome in self._get_executor().run_chain(specs, shards, self._run):
            queued[outcome.node] -= 1
            if outcome.node in following:
                queued[following[outcome.node]] += 1
            for stage, count in queued.items():
                measure("dap_shards_queued", count, stage=stage)
            if outcome.shard in work.to_do[outcome.node]:
                self._progress.update(outcome)
            if outcome.status == "done":
                self._result.worked += 1
                self._index.wrote(outcome.column, outcome.shard)
            if outcome.status in ("failed", "waiting"):
                self._result.unfinished.append(outcome)
            if outcome.fatal:
                self._result.stopped_at = outcome.node
                return
            used = work.budgets[outcome.node]
            used.add(outcome)
            self._check_budget(used, outcome.node, outcome.column)
            if self._result.over_budget:
                return

    def _run_barrier(self, node: Node) -> bool:
        """Brings a barrier up to date; False if it failed, so that later nodes cannot run."""
        assert isinstance(node.step, Barrier)
        planner = Planner(self._graph, self._run)
        if missing := self._missing_input(self._graph.needs(node), planner):
            self._cannot_begin(node, missing)
            return False
        (plan,) = planner.plan([node])
        self._announce(plan)
        if plan.pending:
            started_s = time.monotonic()
            try:
                self._do_barrier(node, planner)
            except (BarrierError, ResourceError) as error:
                self._fail(node, str(error))
                return False
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException:  # noqa: BLE001 - a bug of a barrier, sys.exit() too, fails it; the traceback is kept
                self._fail(node, traceback.format_exc())
                return False
            clear_failure(self._run, node.step.writes.name, node.name)
            column, seconds = node.step.writes.name, time.monotonic() - started_s
            measure_outcome(Outcome(node.name, column, node.name, "done", seconds=seconds))
            self._result.worked += len(plan.pending)
        self._progress.finish(node.name)
        return True

    def _missing_input(self, needs: Sequence[Node], planner: Planner) -> str:
        """Names a needed step that is not whole: a failed shard there must not go unnoticed here."""
        for need in needs:
            (plan,) = planner.plan([need])
            if not plan.done:
                left = f"{len(plan.pending)} of {len(plan.shards)} left" if plan.shards else "not begun"
                return f"needs step {need.name!r}, which is not complete ({left})"
        return ""

    def _do_barrier(self, node: Node, planner: Planner) -> None:
        assert isinstance(node.step, Barrier)
        basis, assets, cache = planner.barrier_basis(node), planner.assets(node), AssetCache(self._run)
        assert basis is not None, "its needs are complete"
        assert assets is not None, "its needs are complete"
        context = planner.context(
            node,
            basis,
            assets={name: cache.local(asset) for name, asset in assets.items()},
            launch_ranks=self._launch_ranks,
            map_stage=lambda stage, shards: self._map_inside(node, stage, shards),
            log=lambda line: self._progress.log(node.name, line),
        )
        try:
            node.step.run(context)
        finally:
            cache.clear()

    def _map_inside(self, node: Node, stage: Stage, shards: Sequence[str]) -> list[Outcome]:
        """Runs a barrier's own stage over shards; raises BarrierError if one fails."""
        assets = {name: resolve_asset(self._run, uri) for name, uri in stage.assets().items()}
        spec = StageSpec.of(Node(node.name, stage), {name: asset for name, asset in assets.items() if asset})
        outcomes = []
        for outcome in self._get_executor().run_chain([spec], shards, self._run):
            self._progress.update(outcome)
            outcomes.append(outcome)
            if outcome.fatal:
                break
        if failed := [outcome for outcome in outcomes if outcome.status == "failed"]:
            raise BarrierError(f"{len(failed)} shards failed, first {failed[0].shard}:\n{failed[0].error}")
        return outcomes

    def _cannot_begin(self, node: Node, why: str) -> None:
        """Something before it is missing: nothing has failed here that would have to be written down."""
        self._result.unfinished.append(Outcome(node.name, node.step.writes.name, node.name, "failed", error=why))
        self._progress.log(node.name, why)

    def _fail(self, node: Node, error: str) -> None:
        """The node has failed as a whole; why is left in its column under its own name."""
        self._result.stopped_at = node.name
        outcome = failed(node.name, node.step.writes.name, self._run, node.name, error)
        self._result.unfinished.append(outcome)
        measure_outcome(outcome)
        self._progress.log(node.name, f"failed: {cause_line(error)}")

    def _get_executor(self) -> Executor:
        self._executor = self._executor or self._make_executor()
        return self._executor


def _used_budget(plan: NodePlan, planner: Planner, pending: Collection[str]) -> BudgetTracker:
    """What a stage has used of its budget in shards that stay out of this run."""
    kept = planner.receipts(plan.node.step.writes.name).without(pending)
    return BudgetTracker(plan.node.budget, kept.samples[1], sum(kept.drops.values()))


def _no_launcher(*_: object) -> NoReturn:
    raise BarrierError("trainings on several workers need a launcher, and this run was started without one")


def check_nodes(nodes: Sequence[Node], *, may_be_unreachable: bool = False) -> None:
    """Looks at everything the steps point at before any work starts; raises RecipeError naming the step."""
    for node in nodes:
        try:
            for uri in node.step.assets().values():
                check_asset(uri)
            node.step.check()
        except UnreachableError as error:
            if not may_be_unreachable:
                raise RecipeError(f"step {node.name!r}: {error}") from error
        except (ValueError, OSError) as error:
            raise RecipeError(f"step {node.name!r}: {error}") from error


def save_recipe(recipe: Recipe, run: RunDir) -> None:
    """Writes the resolved recipe as run.yaml, before anything runs."""
    run.storage.write_bytes("run.yaml", recipe.to_yaml().encode())
