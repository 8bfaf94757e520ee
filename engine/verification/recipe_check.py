"""Compares receipts with the recipe of their run, without looking at anything outside the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress

from ..planning.graph import Graph
from ..planning.recipe import Node
from ..rundir.receipts import Receipt
from ..steps.assets import RUN_SCHEME
from ..steps.fingerprint import plain_settings
from ..steps.step import SourceStage, Stage, Step
from .inspection import Content

_UNKNOWN = "?"


class StepChecks:
    """Checks of particular steps, which the caller of `verify_run` may bring along. These here check nothing."""

    def maker(self, node: Node, receipt: Receipt) -> Step | None:
        """The step whose name and settings the receipt of a node's output should hold; None if it cannot be known."""
        return node.step

    def examine(self, node: Node, receipt: Receipt, contents: Mapping[str, Content]) -> Iterator[str]:
        """Problems of an output, given what the columns of its shard hold (those that are as they should be)."""
        return iter(())


class RecipeCheck:
    """Compares receipts with the nodes of a recipe. Without a recipe it finds nothing."""

    def __init__(self, graph: Graph | None, step_checks: StepChecks) -> None:
        self._graph, self._step_checks = graph, step_checks
        self._shards: dict[str, frozenset[str]] = {}
        for node in graph.nodes if graph else ():
            if isinstance(node.step, SourceStage):
                with suppress(ValueError, OSError):  # what it lists lies outside of the run, and may be gone
                    self._shards[node.name] = frozenset(node.step.shards())

    def differences(self, receipt: Receipt) -> Iterator[str]:
        """What tells a receipt from those that the recipe's steps leave."""
        if self._graph is None:
            return
        name, node = f"{receipt.column}/{receipt.shard}", self._node(receipt)
        if node is None:
            yield f"{name}: no step of run.yaml makes it"
        elif changes := self._changes(node, receipt):
            yield f"{name}: was made by another recipe than run.yaml ({', '.join(changes)})"
        elif receipt.basis.step == node.step.name and receipt.shard not in self._shards.get(node.name, {receipt.shard}):
            yield f"{name}: step {node.name!r} of run.yaml has no such shard"

    def examine(self, receipt: Receipt, contents: Mapping[str, Content]) -> Iterator[str]:
        """What the checks of the step find wrong with an output."""
        node = self._node(receipt)
        return self._step_checks.examine(node, receipt, contents) if node else iter(())

    def assets_of_run(self, receipt: Receipt) -> dict[str, str]:
        """What of the run itself was loaded to make an output (`models/NAME`), with the hash that it had."""
        node = self._node(receipt)
        step = self._step_checks.maker(node, receipt) if node else None
        recorded = receipt.basis.assets
        return {place: recorded[name] for name, place in _assets(step).items() if name in recorded}

    def follows(self, receipt: Receipt) -> bool:
        """Whether the step is a map stage, which reads the same shard of every input."""
        node = self._node(receipt)
        return node is not None and isinstance(node.step, Stage)

    def has_order(self, receipt: Receipt) -> bool:
        """Whether the keys of the output must rise."""
        node = self._node(receipt)
        return node is not None and not getattr(node.step.writes, "shuffled", False)

    def _node(self, receipt: Receipt) -> Node | None:
        if self._graph is None:
            return None
        return self._graph.producer(f"{receipt.column}/{receipt.shard}") or self._graph.producer(receipt.column)

    def _changes(self, node: Node, receipt: Receipt) -> list[str]:
        step, basis = self._step_checks.maker(node, receipt), receipt.basis
        if step is None:
            return []
        now = dataclasses.replace(
            basis,
            step=step.name,
            version=step.version,
            settings=plain_settings(step),
            assets={name: basis.assets.get(name, _UNKNOWN) for name in step.assets()},
            inputs={column: basis.inputs.get(column, _UNKNOWN) for column in step.shard_reads(basis.inputs)},
        )
        return now.differences(basis)


def _assets(step: Step | None) -> dict[str, str]:
    """What a step loads from its own run: its name for it, and the place."""
    uris = step.assets() if step else {}
    return {name: uri.removeprefix(RUN_SCHEME) for name, uri in uris.items() if uri.startswith(RUN_SCHEME)}
