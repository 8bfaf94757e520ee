"""What stands behind a model: its training shards, the models before it, and the steps of all columns it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from ...engine.rundir.lineage import Producer, producers
from ...engine.rundir.receipts import Receipt
from ...engine.rundir.rundir import RunDir
from ...stages.packing.assignment import packed_columns
from ...stages.packing.index import read_index
from ..errors import UsageError
from .weights import Weights

Document = dict[str, Any]


class ModelLineage:
    """Answers for the models of one run, in plain values for JSON. `asks_recipe`: as of `Weights`."""

    def __init__(self, run: RunDir, *, asks_recipe: bool = True) -> None:
        self._run, self._weights, self._packed = run, Weights(run, asks_recipe), set(packed_columns(run))
        self._models: dict[str, Document] = {}
        self._columns: dict[str, Document] = {}

    def of(self, name: str) -> Document:
        """A model, and under `models` and `columns` all that stands behind it, each once.

        Raises:
            UsageError: the run has no such model.
        """
        if name not in self._weights.models:
            raise UsageError(f"no model {name!r} in {self._run.uri}; it has {sorted(self._weights.models)}")
        self._visit_model(name)
        behind = {other: document for other, document in self._models.items() if other != name}
        recipe = recipe_name(self._run)
        return {"model": name, "recipe": recipe, **self._models[name], "models": behind, "columns": self._columns}

    def of_column(self, name: str) -> Document:
        """A column, and all that stands behind it: `models` and `columns`, itself among them, each once."""
        self._visit_column(name)
        return {"column": name, "models": self._models, "columns": self._columns}

    def _visit_model(self, name: str) -> None:
        if name in self._models:
            return
        receipt = self._weights.models[name]
        basis = receipt.basis
        self._models[name] = {
            "object": receipt.output.path,
            "sha256": receipt.output.sha256,
            "bytes": receipt.output.bytes,
            "step": basis.step,
            "version": basis.version,
            "settings": basis.settings,
            "fingerprint": receipt.fingerprint,
            "weights": self._weights.behind(f"models/{name}", basis),
            "training": [self._training(column, sha256) for column, sha256 in basis.inputs.items()],
            "validation": self._validation(receipt),
        }
        self._visit(basis.inputs, self._models[name]["weights"])

    def _training(self, column: str, sha256: str) -> Document:
        """The shards that a model learned from; `current`: they are those that lie there now."""
        shards = read_index(self._run.storage, column) if column in self._packed else []
        samples = sum(shard["samples"] for shard in shards)
        current = self._run.receipts(column).digest == sha256
        return {"column": column, "current": current, "samples": samples, "shards": shards}

    def _validation(self, receipt: Receipt) -> Document:
        """The figures that the training left beside the weights."""
        try:
            return json.loads(self._run.storage.read_bytes(f"{receipt.output.path}/lineage.json"))["validation"]
        except FileNotFoundError:
            return {}

    def column(self, name: str) -> Document:
        """A column: its counts, its inputs, and the steps that made it, with what they loaded."""
        receipts = self._run.receipts(name)
        made_by, tars = producers(receipts), [it for it in receipts.values() if it.output.path.endswith(".tar")]
        return {
            "shards": len(tars or receipts),
            "samples": receipts.samples[1],
            "sha256": receipts.digest,
            "inputs": sorted({column for producer in made_by for column in producer.basis.inputs}),
            "steps": [self._step(name, producer) for producer in made_by],
        }

    def _visit_column(self, column: str) -> None:
        if column in self._columns:
            return
        self._columns[column] = self.column(column)
        for step in self._columns[column]["steps"]:
            self._visit(self._columns[column]["inputs"], step["weights"])

    def _step(self, column: str, producer: Producer) -> Document:
        basis = producer.basis
        return {
            "step": basis.step,
            "version": basis.version,
            "settings": basis.settings,
            "external": basis.external,
            "weights": self._weights.behind(column, basis),
            "fingerprints": dict(producer.fingerprints),
        }

    def _visit(self, columns: Iterable[str], weights: Document) -> None:
        for column in columns:
            self._visit_column(column)
        for loaded in weights.values():
            if loaded["in_run"]:
                self._visit_model(loaded["name"])


def recipe_name(run: RunDir) -> str | None:
    """The name of the recipe that fills a run."""
    return yaml.safe_load(run.storage.read_bytes("run.yaml")).get("name")
