"""What stands behind a model or a packed column, as its card says it: steps, counts, drops, scores, figures, videos."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...engine.rundir.rundir import RunDir
from ...stages.footage.listing import RIGHTS
from ...stages.packing.assignment import SAMPLES
from ...stages.packing.shard import PackShard
from ..lineage.model import ModelLineage
from ..lineage.tree import flat

Document = Mapping[str, Any]
FIGURES = {"abs_rel": "AbsRel", "rmse": "RMSE (m)", "delta1": "δ1"}


@dataclass(frozen=True)
class Provenance:
    """All columns and models behind something of a run, itself among them, as `ModelLineage` describes them."""

    run: RunDir
    columns: Mapping[str, Document]
    models: Mapping[str, Document]

    @classmethod
    def of_model(cls, run: RunDir, name: str) -> Provenance:
        """Raises UsageError if the run has no such model."""
        document = ModelLineage(run).of(name)
        return cls(run, document["columns"], {name: document, **document["models"]})

    @classmethod
    def of_column(cls, run: RunDir, name: str) -> Provenance:
        document = ModelLineage(run).of_column(name)
        return cls(run, document["columns"], document["models"])

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """Columns and models in the order they were made: by what, from what, with counts, drops and settings."""
        made = {name: self._column(name) for name in self.columns}
        made |= {f"models/{name}": self._model(name) for name in self.models}
        before = {name: {other for other in step["made_from"] if other in made} for name, step in made.items()}
        return [made[name] for name in TopologicalSorter(before).static_order()]

    def _column(self, name: str) -> dict[str, Any]:
        document, receipts = self.columns[name], self.run.receipts(name)
        steps = [step for step in document["steps"] if step["step"] != PackShard.name]  # which is a part of `pack`
        weights = [loaded for step in steps for loaded in step["weights"].values()]
        return {
            "name": name,
            "step": ", ".join(f"{step['step']} (version {step['version']})" for step in steps),
            "samples_in": receipts.samples[0],
            "samples_out": receipts.samples[1],
            "drops": receipts.drops,
            "settings": [flat(step["settings"]) for step in steps if step["settings"]],
            "made_from": [*document["inputs"], *map(weights_name, weights)],
        }

    def _model(self, name: str) -> dict[str, Any]:
        document = self.models[name]
        data = [training["column"] for training in document["training"]]
        samples = sum(training["samples"] for training in document["training"])
        return {
            "name": f"models/{name}",
            "step": f"{document['step']} (version {document['version']})",
            "samples_in": samples,
            "samples_out": None,
            "drops": {},
            "settings": [flat(document["settings"])],
            "made_from": [*data, *map(weights_name, document["weights"].values())],
        }

    def kind_of(self, column: str) -> str:
        """The step that made a column: `simulate`, `ingest`, `label`, …; empty if it is not behind this."""
        return next((step["step"] for step in self.columns.get(column, {}).get("steps", ())), "")

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """Least, median and highest score of every column of scores."""
        found = []
        for name in self._named("scores-"):
            values = self._table(name)["score"]
            least_median_highest = pc.quantile(values, [0, 0.5, 1]).to_pylist()
            found.append({"name": name, **dict(zip(("least", "median", "highest"), least_median_highest, strict=True))})
        return found

    @cached_property
    def selections(self) -> list[dict[str, Any]]:
        """Samples and least score of every scene of every selection."""
        found = []
        for name in self._named("selection-"):
            by_scene = self._table(name).group_by("scene").aggregate([("score", "count"), ("score", "min")])
            for row in by_scene.sort_by("scene").to_pylist():
                found.append(
                    {"name": name, "scene": row["scene"], "samples": row["score_count"], "cut": row["score_min"]}
                )
        return found

    def _named(self, prefix: str) -> list[str]:
        return sorted(name for name in self.columns if name.startswith(prefix))

    def _table(self, column: str) -> pa.Table:
        return pa.concat_tables(self.run.table(receipt) for receipt in self.run.receipts(column).values())

    @cached_property
    def figures(self) -> list[dict[str, Any]]:
        """What the run's evaluations measured of these models, by model and data set."""
        models = {document["sha256"]: name for name, document in self.models.items()}
        found = []
        for receipt in self.run.receipts("reports").values():
            if receipt.basis.step != "evaluate":
                continue
            measured = json.loads(self.run.storage.read_bytes(f"{receipt.output.path}/evaluation.json"))
            for alias, sha256 in receipt.basis.assets.items():
                for data, figures in measured.get(alias, {}).items() if sha256 in models else ():
                    found.append(
                        {"model": models[sha256], "data": data, **{name: figures.get(name) for name in FIGURES}}
                    )
        return found

    def sources(self, column: str) -> dict[str, int]:
        """Samples of a packed column by the column that they come from."""
        counts = self._samples(column)["source"].value_counts().to_pylist()
        return dict(sorted((row["values"], row["counts"]) for row in counts))

    def videos(self, column: str) -> pa.Table:
        """The videos behind a packed column: video_id, samples, license, source_url, attribution (null: not known)."""
        keys = self._samples(column)["key"]
        counted = pc.replace_substring_regex(keys, "-[0-9]*$", "").value_counts()
        samples = pa.table({"video_id": counted.field("values"), "samples": counted.field("counts")})
        planned = self._plan()
        return samples.join(planned, "video_id", join_type="inner").sort_by("video_id").combine_chunks()

    def _samples(self, column: str) -> pa.Table:
        with self.run.storage.open(f"{column}/{SAMPLES}.parquet") as stream:
            return pq.read_table(stream, columns=["key", "source"])

    def _plan(self) -> pa.Table:
        """video_id and what is known of the rights, of all planned videos."""
        schema = pa.schema([("video_id", pa.string()), *((name, pa.string()) for name in RIGHTS)])
        tables = [self.run.table(receipt) for receipt in self.run.receipts("plan").values()]
        kept = [table.select([name for name in schema.names if name in table.column_names]) for table in tables]
        return pa.concat_tables([schema.empty_table(), *kept], promote_options="default")

    def base_models(self, model: str) -> list[str]:
        """The hub's models whose weights a model began with, itself or through those before it."""
        return sorted(set(self._base_models(model)))

    def _base_models(self, model: str) -> Iterator[str]:
        weights = self.models[model]["weights"]
        for loaded in (weights[name] for name in ("init", "backbone") if name in weights):
            if loaded["in_run"]:
                yield from self._base_models(loaded["name"])
            elif loaded["sha256"].startswith("hub:"):
                yield loaded["name"]


def weights_name(loaded: Document) -> str:
    """Weights as a card names them: a model of the run, a hub id, or a file's own name without its folders."""
    if loaded["in_run"]:
        return f"models/{loaded['name']}"
    is_on_hub = loaded["sha256"].startswith("hub:")
    return loaded["name"] if is_on_hub else f"weights {PurePath(loaded['name'] or 'replaced since').name}"
