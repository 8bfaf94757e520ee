"""Tries a few samples at every map stage before a run, each stage in a process of its own, and writes nothing into it.

Inputs come from the run where they are up to date, else from what the probe has made of the stages before; all output
goes to a folder that is a run directory in small. A barrier is not probed, unless it only lists files: with what that
says, the stages after it can be planned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..execution.run_shard import StageSpec
from ..planning.graph import Graph
from ..planning.plan import NodePlan, Planner, is_map
from ..planning.recipe import Node
from ..records.sample import Drop
from ..rundir.receipts import Receipt
from ..rundir.rundir import RunDir
from ..steps.assets import Asset, resolve_asset
from ..steps.barrier import Barrier, BarrierContext, BarrierError
from .child import measure_apart
from .measure import Measured, ProbeError, ProbeSpec

LIMIT_S = 300.0  # for a stage


@dataclass(frozen=True)
class Probed:
    """A map stage and what it took, or why it was not probed."""

    node: Node
    shard: str = ""
    measured: Measured | None = None
    why_not: str = ""
    log: str = ""  # a file that holds all of why not


class Probe:
    """Probes the nodes of a graph in their spec. `made` is an empty local folder that takes all output.

    `in_process`: the run will be one process, whose stages compute on all cores.
    """

    def __init__(
        self, graph: Graph, run: RunDir, made: Path, log: Callable[[str], None], *, in_process: bool = False
    ) -> None:
        self._graph, self._run, self._folder, self._log, self._in_process = graph, run, made, log, in_process
        self._made = RunDir(str(made / "run"))
        self._foreseen: dict[str, Mapping[str, Receipt]] = {}  # columns that were listed aside
        self._stands_in = False  # whether files that the probe made stand for those that the run has still to make
        self.plans: dict[str, NodePlan] = {}  # by node, as far as can be told by now

    def run(self, nodes: Sequence[Node], limit_s: float = LIMIT_S) -> list[Probed]:
        """Probes every map stage among the nodes. One that fails is said so, and the rest goes on."""
        probed = []
        for node in self._listed(nodes):
            if is_map(node):
                self._log(f"probing {node.name}")
                probed.append(self._probe(node, limit_s))
        return probed

    def look(self, nodes: Sequence[Node]) -> None:
        """Only plans, and lists what can be reached."""
        for _ in self._listed(nodes):
            pass

    def _listed(self, nodes: Sequence[Node]) -> Iterator[Node]:
        """The nodes in turn; what only lists files does so before the next one comes."""
        self.plans = {plan.node.name: plan for plan in Planner(self._graph, self._run).plan(nodes)}
        for node in nodes:
            yield node
            if isinstance(node.step, Barrier) and node.step.only_lists and not self.plans[node.name].done:
                self._list(node, nodes)

    def samples(self, column: str) -> dict[str, int]:
        """Samples of every shard of a column, as it is or as it was foreseen."""
        receipts = self._foreseen.get(column) or self._run.receipts(column)
        return {shard: receipt.samples_out for shard, receipt in receipts.items()}

    def mean(self, column: str, field: str) -> float | None:
        """The mean of a field of a parquet column, as it is or as it was foreseen; None if nothing says it."""
        run = self._made if column in self._foreseen else self._run
        values = [
            value
            for receipt in (self._foreseen.get(column) or run.receipts(column)).values()
            for value in run.table(receipt)[field].drop_null().to_pylist()
        ]
        return sum(values) / len(values) if values else None

    def _probe(self, node: Node, limit_s: float) -> Probed:
        shard = ""
        try:
            plan = self.plans[node.name]
            if not plan.shards:
                raise ProbeError("; ".join(plan.reasons) or "has no shards")
            shard = (plan.pending or plan.shards)[0]
            held = [column for column in node.step.reads if shard in self._shards(column)]
            inputs = {column: self._input(column, shard) for column in node.step.shard_reads(held)}
            home = self._made if self._stands_in else self._run
            spec = ProbeSpec(self._spec(node), shard, inputs, home, self._made)
            return Probed(node, shard, measure_apart(spec, self._folder, limit_s, all_cores=self._in_process))
        except ProbeError as error:
            return Probed(node, shard, why_not=str(error), log=error.log)

    def _spec(self, node: Node) -> StageSpec:
        assets: dict[str, Asset] = {}
        for name, uri in node.step.assets().items():
            asset = resolve_asset(self._run, uri)
            if asset is None:
                raise ProbeError(f"needs {uri}")
            assets[name] = asset
        try:
            return StageSpec.of(node, assets)
        except Exception as error:
            raise ProbeError(f"{type(error).__name__}: {error}") from error

    def _input(self, column: str, shard: str) -> tuple[RunDir, Receipt]:
        """Where a shard of a column lies: in the run, or, where that would be made anew, among what the probe made."""
        places = [self._run, self._made]
        if column in self._foreseen or shard in self._pending(column):
            places.reverse()
        for place in places:
            if (receipt := place.receipt(column, shard)) and place.size_matches(receipt):
                return place, receipt
        raise ProbeError(f"needs {column}")

    def _pending(self, column: str) -> Sequence[str]:
        plan = self._plan_of(column)
        return plan.pending if plan else ()

    def _shards(self, column: str) -> Sequence[str]:
        plan = self._plan_of(column)
        return (plan.shards or ()) if plan else ()

    def _plan_of(self, column: str) -> NodePlan | None:
        maker = self._graph.producer(column)
        return self.plans.get(maker.name) if maker else None

    def _list(self, node: Node, nodes: Sequence[Node]) -> None:
        """Runs a listing aside, and plans what follows it."""
        assert isinstance(node.step, Barrier)
        column = node.step.writes.name
        try:
            node.step.run(self._context(node))
        except (BarrierError, ValueError, OSError) as error:
            self._log(f"{node.name}: {error}")
            return
        self._foreseen[column] = self._made.receipts(column)
        rest = [other for other in nodes if other.step.writes.name not in self._foreseen]
        for plan in Planner(self._graph, self._run).plan(rest):
            if is_map(plan.node):
                self.plans[plan.node.name] = self._after_listing(plan)

    def _after_listing(self, plan: NodePlan) -> NodePlan:
        """The plan of a map stage, some of whose shards may come from a listing: new ones, changed ones, or gone."""
        roots = self._graph.roots(plan.node)
        listed = [column for root in roots if (column := root.step.writes.name) in self._foreseen]
        if not listed:
            return plan
        before = {shard: receipt for column in listed for shard, receipt in self._run.receipts(column).items()}
        now = {shard: receipt for column in listed for shard, receipt in self._foreseen[column].items()}
        others = [s for root in roots if root.step.writes.name not in listed for s in self._shards(root.step.produces)]
        shards = sorted([*now, *others])
        left = set(shards) if plan.shards is None else set(plan.pending)
        left |= {s for s in now if s not in before or before[s].output.sha256 != now[s].output.sha256}
        return dataclasses.replace(plan, shards=tuple(shards), pending=tuple(s for s in shards if s in left))

    def _context(self, node: Node) -> BarrierContext:
        planner = Planner(self._graph, self._run)
        basis = planner.barrier_basis(node)
        assert basis is not None, "it loads no weights"
        context = planner.context(node, basis, log=self._log, map_stage=lambda *_: [])  # its own stages stay out
        run, inputs = self._run, context.inputs
        if any(self._pending(column) for column in node.step.reads):
            run, inputs = self._made, {column: self._stand_ins(column) for column in node.step.reads}
            self._stands_in = True
        return _ProbeContext(**{**vars(context), "run": run, "inputs": inputs}, made=self._made)

    def _stand_ins(self, column: str) -> dict[str, Receipt]:
        """Lets the one shard that the probe made of a folder column stand for all of its shards."""
        maker = self._graph.producer(column)
        made = next(iter(self._made.receipts(column).values()), None)
        if maker is None or made is None:
            raise ValueError(f"needs {column}")
        found = {}
        for shard in self.plans[maker.name].shards or ():
            path = maker.step.writes.path(shard)
            place = Path(self._made.storage.locate(path))
            if not place.exists():
                place.symlink_to(self._made.storage.locate(made.output.path))
            found[shard] = dataclasses.replace(made, shard=shard, output=dataclasses.replace(made.output, path=path))
        return found


@dataclass(frozen=True)
class _ProbeContext(BarrierContext):
    """A barrier context that reads from the run and commits to the temporary run directory of the probe."""

    made: RunDir = dataclasses.field(kw_only=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with self.made.storage.scratch() as folder:
            yield folder

    def commit(self, shard: str, local: Path, samples_in: int, samples_out: int, drops: Sequence[Drop] = ()) -> Receipt:
        there = dataclasses.replace(self, run=self.made)
        return super(_ProbeContext, there).commit(shard, local, samples_in, samples_out, drops)

    def keep_only(self, shards: Iterable[str]) -> None:
        """Removes nothing."""
