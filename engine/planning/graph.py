"""The graph of a recipe: which node makes what another reads, in which order they run, and which run as one chain."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from ..steps.assets import RUN_SCHEME
from ..steps.barrier import Barrier
from ..steps.step import SourceStage, Stage
from .recipe import Node, RecipeError
from .settings import did_you_mean

_PLACE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)  # a column, or one output of it


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they run: the recipe's own order wherever dependencies allow it."""

    nodes: tuple[Node, ...]

    def producer(self, produced: str) -> Node | None:
        """The node that makes a column (`frames`) or one output of it (`models/labeler1`)."""
        return next((node for node in self.nodes if node.step.produces == produced), None)

    def needs(self, node: Node) -> list[Node]:
        """The nodes that must be done before this one."""
        assets = [path for uri in node.step.assets().values() if (path := _inside_run(uri))]
        return [made for name in dict.fromkeys([*node.step.reads, *assets]) if (made := self.producer(name))]

    def roots(self, node: Node) -> list[Node]:
        """The source stages and barriers whose shards a map stage follows: those behind each of its alternatives."""
        if isinstance(node.step, SourceStage) or not isinstance(node.step, Stage):
            return [node]
        followed = node.step.alternatives or node.step.reads[:1]
        makers = [maker for column in followed if (maker := self.producer(column))]
        return list({root.name: root for maker in makers for root in self.roots(maker)}.values())

    def origins(self, column: str) -> set[str]:
        """The nodes that the shards of a column come from: as `roots`, and on through barriers that follow columns."""
        maker = _maker(self, column)
        if isinstance(maker.step, Barrier):
            followed = maker.step.follows
        else:
            followed = maker.step.alternatives or maker.step.reads[:1] if isinstance(maker.step, Stage) else ()
        return set().union(*map(self.origins, followed)) or {maker.name}

    def chains(self, selected: Iterable[Node]) -> list[tuple[Node, ...]]:
        """The selected nodes in order; consecutive map stages that have shards in common stand together."""
        groups: list[tuple[Node, ...]] = []
        for node in selected:
            last = groups[-1] if groups else ()
            if last and self._continues(last, node):
                groups[-1] = (*last, node)
            else:
                groups.append((node,))
        return groups

    def _continues(self, chain: tuple[Node, ...], node: Node) -> bool:
        if not all(isinstance(member.step, Stage) for member in (*chain, node)):
            return False
        followed = {root.name for member in chain for root in self.roots(member)}
        return not followed.isdisjoint(root.name for root in self.roots(node))

    def select(self, only: Iterable[str] = (), until: str | None = None) -> list[Node]:
        """All nodes, or those named by `only`, or `until` and all it needs; raises RecipeError for unknown names.

        A name is that of a node, or of the step whose `each` made several.
        """
        names = {node.name for node in self.nodes}
        known = names | {node.family for node in self.nodes if node.family}
        if unknown := sorted({*only, *([until] if until else [])} - known):
            raise RecipeError(f"no step {unknown[0]!r} in the recipe{did_you_mean(unknown[0], known)}")
        if until:
            names = set().union(*(self._closure(name) for name in self._named([until])))
        if only:
            names &= self._named(only)
        if not names:
            raise RecipeError(f"no step is both in {sorted(only)} and needed for {until!r}")
        return [node for node in self.nodes if node.name in names]

    def _named(self, names: Iterable[str]) -> set[str]:
        return {node.name for node in self.nodes if {node.name, node.family} & set(names)}

    def _closure(self, name: str) -> set[str]:
        node = next(node for node in self.nodes if node.name == name)
        return {name}.union(*(self._closure(need.name) for need in self.needs(node)))


def build_graph(nodes: Iterable[Node]) -> Graph:
    """Orders the nodes; raises RecipeError for two makers of one output, a column nobody makes, or a cycle."""
    unordered = Graph(tuple(nodes))
    for node in unordered.nodes:
        made = node.step.produces
        if not _PLACE.fullmatch(made) or not _PLACE.fullmatch(node.step.writes.name):
            raise RecipeError(f"step {node.name!r} would write {made!r}: use letters, digits, '_', '-' and '.'")
        if node.step.writes.name in ("receipts", "drops", "logs"):
            raise RecipeError(f"step {node.name!r} would write {made!r}, which is the run's own: take another name")
        if (other := unordered.producer(made)) is not node:
            raise RecipeError(f"steps {other.name if other else '?'!r} and {node.name!r} both write {made!r}")
        for column in node.step.reads:
            if unordered.producer(column) is None:
                raise RecipeError(f"step {node.name!r} reads {column!r}, which no step of the recipe writes")
        for uri in node.step.assets().values():
            if (path := _inside_run(uri)) and unordered.producer(path) is None:
                raise RecipeError(f"step {node.name!r} loads {uri!r}, which no step of the recipe writes")
        if isinstance(node.step, Stage) and not isinstance(node.step, SourceStage) and not node.step.reads:
            raise RecipeError(f"step {node.name!r} is a map stage that reads nothing")
    graph = Graph(tuple(_ordered(unordered)))
    for node in graph.nodes:
        if isinstance(node.step, Stage) and len(node.step.alternatives) > 1:
            _check_alternatives(graph, node, node.step)
        if isinstance(node.step, Barrier):
            _check_joins(graph, node, node.step)
    return graph


def _check_alternatives(graph: Graph, node: Node, stage: Stage) -> None:
    """Raises RecipeError unless alternatives follow different shards, each of which all other columns read have."""
    followed: dict[str, str] = {}  # alternatives by root
    for column in stage.alternatives:
        for root in graph.roots(_maker(graph, column)):
            if root.name in followed:
                both = f"{followed[root.name]!r} and {column!r}"
                raise RecipeError(f"step {node.name!r}: {both} have the same shards, and it takes each shard of one")
            followed[root.name] = column
    for column in set(stage.reads) - set(stage.alternatives):
        maker = _maker(graph, column)
        if isinstance(maker.step, SourceStage) or not isinstance(maker.step, Stage):
            continue
        there = {root.name for root in graph.roots(maker)}
        if missing := [followed[root] for root in followed if root not in there]:
            raise RecipeError(
                f"step {node.name!r} reads {column!r} beside {missing[0]!r}, but step {maker.name!r} makes none of that"
            )


def _check_joins(graph: Graph, node: Node, barrier: Barrier) -> None:
    """Raises RecipeError where columns that a barrier joins cannot have the same shards."""
    for these, those in barrier.joins:
        wanted = {origin: column for column in these for origin in sorted(graph.origins(column))}
        there = set().union(*map(graph.origins, those))
        if {_maker(graph, column).name for column in those} & there - wanted.keys():
            continue  # it brings shards of its own, which may be called as those wanted are
        if missing := [origin for origin in wanted if origin not in there]:
            raise RecipeError(
                f"step {node.name!r} reads {wanted[missing[0]]!r} with the shards of step {missing[0]!r}, "
                f"which are not in {' or '.join(map(repr, those))}"
            )


def _maker(graph: Graph, column: str) -> Node:
    maker = graph.producer(column)
    assert maker is not None  # looked at before
    return maker


def _ordered(graph: Graph) -> list[Node]:
    """Topological order, staying on the chain of the node before where possible, else by the recipe's order."""
    sorter = TopologicalSorter({node.name: {need.name for need in graph.needs(node)} for node in graph.nodes})
    try:
        sorter.prepare()
    except CycleError as error:
        raise RecipeError(f"the steps depend on each other in a circle: {' -> '.join(error.args[1])}") from error
    ready: set[str] = set()
    ordered: list[Node] = []
    while sorter.is_active():
        ready.update(sorter.get_ready())
        node = next(node for node in graph.nodes if node.name in ready)
        ready.remove(node.name)
        sorter.done(node.name)
        ordered.append(node)
    return ordered


def _inside_run(uri: str) -> str:
    return uri.removeprefix(RUN_SCHEME) if uri.startswith(RUN_SCHEME) else ""
