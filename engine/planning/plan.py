"""What of a recipe would run, and why: decided from receipts and listings alone, no shard is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from ..records.keys import ColumnError
from ..rundir.index import write_index
from ..rundir.receipt_table import Receipts, Validated
from ..rundir.receipts import Basis
from ..rundir.rundir import RunDir
from ..steps.assets import Asset, resolve_asset
from ..steps.barrier import Barrier, BarrierContext
from ..steps.fingerprint import basis_of
from ..steps.step import SourceStage, Stage
from ..storage.storage import StorageError
from .compare import input_hashes, why_pending
from .graph import Graph
from .recipe import Node
from .settings import RecipeError


@dataclass(frozen=True)
class NodePlan:
    """The state of one node: its shards (None: not known before earlier nodes ran), those to run, and the reasons."""

    node: Node
    shards: tuple[str, ...] | None
    pending: tuple[str, ...]
    reasons: Mapping[str, int]  # why shards are pending -> how many, most first; 0 where that is not known yet
    orphans: tuple[str, ...] = ()  # shards that are there and not in the recipe any more: a run removes them
    waits: bool = False  # for something before it: `pending` is all that could be, and `reasons` says for what

    @property
    def done(self) -> bool:
        """Whether nothing of the node would run."""
        return self.shards is not None and not self.pending


class Planner:
    """Compares receipts with what they should be. One planner looks at one moment: receipts are read once a column."""

    def __init__(self, graph: Graph, run: RunDir, *, keeps_index: bool = False) -> None:
        """`keeps_index`: whether to write the index of a column anew if many of its receipts had to be opened."""
        self._graph, self._run, self._keeps_index = graph, run, keeps_index
        self._columns: dict[str, Validated] = {}
        self._followed: dict[str, tuple[str, ...]] = {}  # the shards of a source or a barrier, by node
        self._assets: dict[str, Asset | None] = {}

    def plan(self, nodes: Sequence[Node]) -> list[NodePlan]:
        """The plan of each node, given that the nodes before it run first."""
        plans: dict[str, NodePlan] = {}
        for node in nodes:
            waits = [n for n in self._graph.needs(node) if n.name in plans and not plans[n.name].done]
            follows = [n for n in waits if not isinstance(n.step, Barrier) and n.step.produces in node.step.reads]
            if isinstance(node.step, Barrier) and waits:
                plans[node.name] = _waiting(node, None, f"after {waits[0].name}")
            elif held_up := [n for n in waits if n not in follows]:
                plans[node.name] = _waiting(node, self._shards(node), f"after {held_up[0].name}")
            else:
                plans[node.name] = self._plan_if_reachable(node, [plans[n.name] for n in follows])
        return list(plans.values())

    def receipts(self, column: str) -> Receipts:
        """The receipts of a column that agree with its outputs, read once."""
        return self._look_at(column).receipts

    def all_receipts(self, column: str) -> Receipts:
        """All receipts of a column, whether or not they agree with its outputs."""
        return self._look_at(column).all_receipts

    def assets(self, node: Node) -> dict[str, Asset] | None:
        """The node's assets; None if one has still to be made."""
        found = {name: self._asset(uri) for name, uri in node.step.assets().items()}
        present = {name: asset for name, asset in found.items() if asset}
        return present if len(present) == len(found) else None

    def barrier_basis(self, node: Node) -> Basis | None:
        """What a barrier's outputs depend on; None while an asset is missing."""
        return self._basis(node, {column: self.receipts(column).digest for column in node.step.reads})

    def context(self, node: Node, basis: Basis, **callbacks: Any) -> BarrierContext:
        """The barrier's view of the run; without callbacks it is read-only."""
        assert isinstance(node.step, Barrier)
        inputs = {column: self.receipts(column) for column in node.step.reads}
        given: dict[str, Any] = {
            "assets": {},
            "map_stage": _refuse,
            "launch_ranks": _refuse,
            "log": _refuse,
            **callbacks,
        }
        return BarrierContext(run=self._run, basis=basis, writes=node.step.writes, inputs=inputs, **given)

    def _look_at(self, column: str) -> Validated:
        if column not in self._columns:
            maker = self._graph.producer(column)
            by_mtime = maker is not None and is_map(maker)  # only a shard can have two attempts at a time
            self._columns[column] = found = self._run.validated(column, by_mtime=by_mtime)
            if self._keeps_index:
                write_index(self._run.storage, found.all_receipts)
        return self._columns[column]

    def _basis(self, node: Node, inputs: dict[str, str]) -> Basis | None:
        assets = self.assets(node)
        return None if assets is None else basis_of(node.step, {n: asset.sha256 for n, asset in assets.items()}, inputs)

    def _asset(self, uri: str) -> Asset | None:
        if uri not in self._assets:
            self._assets[uri] = resolve_asset(self._run, uri)
        return self._assets[uri]

    def _shards(self, node: Node) -> tuple[str, ...] | None:
        """The shards a map stage follows; None if some are not known yet. RecipeError where two roots have the same."""
        roots = self._graph.roots(node)
        found = [shards for root in roots if (shards := self._shards_of(root)) is not None]
        if len(found) < len(roots):
            return None
        if len(roots) == 1:
            return found[0]
        holders: dict[str, str] = {}
        for root, shards in zip(roots, found, strict=True):
            if shared := next((shard for shard in shards if shard in holders), None):
                both = f"{holders[shared]!r} and {root.name!r}"
                raise RecipeError(f"step {node.name!r}: both {both} have a shard {shared!r}, and it takes one")
            holders |= dict.fromkeys(shards, root.name)
        return tuple(sorted(holders))

    def _shards_of(self, root: Node) -> tuple[str, ...] | None:
        """The shards of a source or a barrier; None if they are not known yet."""
        if root.name not in self._followed:
            source = root.step.shards() if isinstance(root.step, SourceStage) else self.receipts(root.step.produces)
            self._followed[root.name] = tuple(source)
        return self._followed[root.name] or (() if isinstance(root.step, SourceStage) else None)

    def _plan_if_reachable(self, node: Node, upstream: Sequence[NodePlan]) -> NodePlan:
        """The node's plan; where what it points at is out of reach, or gone, that is all there is to say."""
        try:
            return self._map_plan(node, upstream) if is_map(node) else self._barrier_plan(node)
        except (ColumnError, StorageError, RecipeError):
            raise  # trouble inside the run is another matter, and so is a recipe that cannot be
        except (ValueError, OSError) as error:
            return _waiting(node, None, str(error))

    def _map_plan(self, node: Node, upstream: Sequence[NodePlan]) -> NodePlan:
        shards = self._shards(node)
        if shards is None:
            unknown = next(root for root in self._graph.roots(node) if self._shards_of(root) is None)
            return _waiting(node, None, f"after {unknown.name}")
        basis = self._basis(node, {})
        if basis is None:
            return _waiting(node, shards, "its weights are still to be made")
        follows = {shard: f"follows {plan.node.name}" for plan in reversed(upstream) for shard in plan.pending}
        inputs = input_hashes(node.step, {column: self.receipts(column) for column in node.step.reads}, shards)
        there = self._look_at(node.step.writes.name)
        reasons = why_pending(there, shards, basis, inputs)
        why = ((shard, follows.get(shard, reason)) for shard, reason in zip(shards, reasons, strict=True))
        orphans = tuple(there.all_receipts.without(shards))
        return _plan_from_reasons(node, shards, {shard: reason for shard, reason in why if reason}, orphans)

    def _barrier_plan(self, node: Node) -> NodePlan:
        assert isinstance(node.step, Barrier)
        basis = self.barrier_basis(node)
        if basis is None:
            return _waiting(node, None, "its weights are still to be made")
        shards = tuple(node.step.shards(self.context(node, basis)))
        done = self._look_at(node.step.writes.name)
        why = zip(shards, why_pending(done, shards, basis, repeat(basis.inputs, len(shards))), strict=True)
        return _plan_from_reasons(node, shards, {shard: reason for shard, reason in why if reason})


def is_map(node: Node) -> bool:
    """Whether a node works shard by shard."""
    return isinstance(node.step, Stage)


def _plan_from_reasons(
    node: Node, shards: tuple[str, ...], why: Mapping[str, str], orphans: tuple[str, ...] = ()
) -> NodePlan:
    return NodePlan(node, shards, tuple(why), dict(Counter(why.values()).most_common()), orphans)


def _waiting(node: Node, shards: tuple[str, ...] | None, reason: str) -> NodePlan:
    """The plan of a node of which there is nothing to say but why it waits."""
    return NodePlan(node, shards, shards or (), {reason: len(shards or ())}, waits=True)


def _refuse(*_: Any) -> Any:
    raise RuntimeError("a plan only looks; it does no work")
