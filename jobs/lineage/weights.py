"""What weights stand behind a receipt, by name: a receipt itself holds their hashes alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...engine.planning.graph import Graph
from ...engine.rundir.receipts import Basis, Receipt
from ...engine.rundir.rundir import RunDir
from ...engine.steps.assets import RUN_SCHEME
from ..job import open_saved_job

_HUB = "hub:"


@dataclass(frozen=True)
class Weights:
    """The models of a run, and what its recipe says of others."""

    run: RunDir
    asks_recipe: bool = True  # for the names of weights that are not of the run; building its steps costs seconds

    @cached_property
    def models(self) -> dict[str, Receipt]:
        """The models of the run, by name."""
        return dict(self.run.receipts("models"))

    def behind(self, output: str, basis: Basis) -> dict[str, dict[str, Any]]:
        """Name, sha256 and `in_run` of each thing that was loaded for an output (`labels-1`, `models/dap`).

        `in_run`: a model of the run has that very hash, and the name is its own. Others are named as in run.yaml.
        """
        return {asset: self._named(output, asset, sha256) for asset, sha256 in basis.assets.items()}

    def _named(self, output: str, asset: str, sha256: str) -> dict[str, Any]:
        for name, receipt in self.models.items():
            if receipt.output.sha256 == sha256:
                return {"name": name, "sha256": sha256, "in_run": True}
        return {"name": self._outside(output, asset, sha256), "sha256": sha256, "in_run": False}

    def _outside(self, output: str, asset: str, sha256: str) -> str | None:
        """Where weights that are not of the run lay; None if they have been replaced since, or nobody knows."""
        if sha256.startswith(_HUB):
            return sha256.removeprefix(_HUB)
        if not self.asks_recipe:
            return None
        node = self._graph.producer(output)  # only now: building the steps costs seconds
        place = node.step.assets().get(asset) if node else None
        return None if place and place.startswith(RUN_SCHEME) else place

    @cached_property
    def _graph(self) -> Graph:
        return open_saved_job(self.run).graph
