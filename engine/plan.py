"""What of a recipe would run, and why: decided from receipts alone, no shard is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.assets import Asset, resolve_asset
from engine.barrier import BarrierContext
from engine.columns import ColumnError
from engine.graph import Graph
from engine.receipts import Basis, Receipt, basis_of, column_digest
from engine.recipe import Node
from engine.rundir import RunDir
from engine.shard import MapStep
from engine.stage import Barrier, SourceStage, Stage


@dataclass(frozen=True)
class NodePlan:
    """The state of one node: its shards (None: not known before earlier nodes ran), those to run, and the reasons."""

    node: Node
    shards: tuple[str, ...] | None
    pending: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether nothing of the node would run."""
        return self.shards is not None and not self.pending


class Planner:
    """Compares receipts with what they should be. One planner looks at one moment: receipts are read once a column."""

    def __init__(self, graph: Graph, run: RunDir) -> None:
        self._graph, self._run = graph, run
        self._receipts: dict[str, dict[str, Receipt]] = {}
        self._assets: dict[str, Asset | None] = {}

    def plan(self, nodes: Sequence[Node]) -> list[NodePlan]:
        """The plan of each node, given that the nodes before it run first."""
        plans: dict[str, NodePlan] = {}
        for node in nodes:
            waits = [n for n in self._graph.needs(node) if n.name in plans and not plans[n.name].done]
            follows = [n for n in waits if not isinstance(n.step, Barrier) and n.step.produces in node.step.reads]
            if isinstance(node.step, Barrier) and waits:
                plans[node.name] = NodePlan(node, None, (), (f"after {waits[0].name}",))
            elif held_up := [n for n in waits if n not in follows]:
                shards = self._shards(node)
                plans[node.name] = NodePlan(node, shards, shards or (), (f"after {held_up[0].name}",))
            else:
                plans[node.name] = self._plan_if_reachable(node, {n.name: plans[n.name] for n in follows})
        return list(plans.values())

    def receipts(self, column: str) -> dict[str, Receipt]:
        """The receipts of a column whose outputs are there, read once."""
        if column not in self._receipts:
            self._receipts[column] = self._run.receipts_with_outputs(column)
        return self._receipts[column]

    def assets(self, node: Node) -> dict[str, Asset] | None:
        """The node's assets; None if one has still to be made."""
        found = {name: self._asset(uri) for name, uri in node.step.assets().items()}
        present = {name: asset for name, asset in found.items() if asset}
        return present if len(present) == len(found) else None

    def barrier_basis(self, node: Node) -> Basis | None:
        """What a barrier's outputs depend on; None while an asset is missing."""
        assets = self.assets(node)
        if assets is None:
            return None
        inputs = {column: column_digest(self.receipts(column).values()) for column in node.step.reads}
        return basis_of(node.step, {name: asset.sha256 for name, asset in assets.items()}, inputs)

    def _asset(self, uri: str) -> Asset | None:
        if uri not in self._assets:
            self._assets[uri] = resolve_asset(self._run, uri)
        return self._assets[uri]

    def _shards(self, node: Node) -> tuple[str, ...] | None:
        """The shards a map stage follows."""
        root = self._graph.root(node)
        if isinstance(root.step, SourceStage):
            return tuple(root.step.shards())
        return tuple(self.receipts(root.step.produces)) or None

    def _plan_if_reachable(self, node: Node, upstream: dict[str, NodePlan]) -> NodePlan:
        """The node's plan; where what it points at is out of reach, or gone, that is all there is to say."""
        try:
            return self._node_plan(node, upstream)
        except ColumnError:
            raise  # damage inside the run is another matter
        except (ValueError, OSError) as error:
            return NodePlan(node, None, (), (str(error),))

    def _node_plan(self, node: Node, upstream: dict[str, NodePlan]) -> NodePlan:
        if isinstance(node.step, Barrier):
            return self._barrier_plan(node)
        shards = self._shards(node)
        if shards is None:
            return NodePlan(node, None, (), (f"after {self._graph.root(node).name}",))
        assets = self.assets(node)
        if assets is None:
            return NodePlan(node, shards, shards, ("its weights are still to be made",))
        reasons = {shard: self._why(node, shard, MapStep(node, assets), upstream) for shard in shards}
        pending = tuple(shard for shard, reason in reasons.items() if reason)
        return NodePlan(node, shards, pending, tuple(sorted({reason for reason in reasons.values() if reason})))

    def _why(self, node: Node, shard: str, step: MapStep, upstream: dict[str, NodePlan]) -> str:
        """Why a shard would run; empty if it is up to date."""
        if before := next((name for name, plan in upstream.items() if shard in plan.pending), None):
            return f"follows {before}"
        inputs = {column: self.receipts(column).get(shard) for column in node.step.reads}
        present = {column: receipt for column, receipt in inputs.items() if receipt}
        if len(present) < len(inputs):
            return "its input is missing"
        return self._compare(self.receipts(node.step.writes.name).get(shard), step.basis(present))

    def _barrier_plan(self, node: Node) -> NodePlan:
        assert isinstance(node.step, Barrier)
        basis = self.barrier_basis(node)
        if basis is None:
            return NodePlan(node, None, (), ("its weights are still to be made",))
        shards = tuple(node.step.shards(self.context(node, basis)))
        receipts = self.receipts(node.step.writes.name)
        reasons = {shard: self._compare(receipts.get(shard), basis) for shard in shards}
        pending = tuple(shard for shard, reason in reasons.items() if reason)
        return NodePlan(node, shards, pending, tuple(sorted({reason for reason in reasons.values() if reason})))

    def context(self, node: Node, basis: Basis, **abilities: Any) -> BarrierContext:
        """The barrier's view of the run; without abilities it can look, not work."""
        assert isinstance(node.step, Barrier)
        inputs = {column: self.receipts(column) for column in node.step.reads}
        able: dict[str, Any] = {"assets": {}, "map_stage": _refuse, "say": _refuse, **abilities}
        return BarrierContext(run=self._run, basis=basis, writes=node.step.writes, inputs=inputs, **able)

    @staticmethod
    def _compare(done: Receipt | None, wanted: Basis) -> str:
        if done is None:
            return "new"
        if done.fingerprint == wanted.fingerprint:
            return ""
        return ", ".join(wanted.differences(done.basis)) or "changed"


def is_map(node: Node) -> bool:
    """Whether a node works shard by shard."""
    return isinstance(node.step, Stage)


def _refuse(*_: Any) -> Any:
    raise RuntimeError("a plan only looks; it does no work")
