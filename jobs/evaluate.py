"""Evaluation of several models on held-out labelled panoramas: a barrier that leaves figures, a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import simplejpeg

from engine.barrier import BarrierContext, BarrierError
from engine.columns import Column, FolderColumn, read_rows
from engine.rundir import RunDir
from engine.stage import Barrier
from jobs.blind import BlindPredictor
from jobs.evaluate_measure import Measurement, aligned_m
from jobs.pictures import comparison_png
from models.datasets.base import Labelled
from models.depth_png import decode_depth_png
from models.labelers.fusion import Patches
from models.labelers.load import Estimate, Labeler, check_labeler, make_labeler, split_place, weights_of
from models.labelers.outputs import METRIC, OutputSetting, check_alignment
from models.metrics_alignment import Alignment
from stages.label import function_hashes
from stages.pack import read_index

BLIND = "blind"
_PICTURED = 3  # panoramas of each data set in the picture


@dataclass
class Evaluate(Barrier):
    """Models and labelled columns to `reports/<report>`: evaluation.json, table.txt and examples.png.

    `models` maps the name shown to the weights, `data` the name shown to a labelled column, whose split `split` is
    used. The blind predictor learns from the training split of the packed column `blind`.

    Models of others stand beside ours under their schemes (`models.labelers.load`), on whole panoramas or on `patches`.
    `outputs` says what one gives if it does not, `alignments` how it is brought to the truth before it is measured,
    by the names of models: what is relative can be measured with one alone.
    """

    name: ClassVar[str] = "evaluate"

    models: dict[str, str]
    data: dict[str, str]
    blind: str
    split: str = "test"
    report: str = "evaluation"
    batch_size: int = 8
    device: str = field(default="auto")
    patches: Patches | None = None
    outputs: dict[str, OutputSetting] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted({*self.outputs, *self.alignments} - set(self.models)):
            raise ValueError(f"evaluate: outputs and alignments name {unknown[0]!r}, which is none of the models")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.data.values(), self.blind]))

    @property
    def writes(self) -> Column:
        return FolderColumn("reports")

    @property
    def produces(self) -> str:
        return f"reports/{self.report}"

    def assets(self) -> dict[str, str]:
        return {name: weights for name, place in self.models.items() if (weights := weights_of(place))}

    def check(self) -> None:
        for name, place in self.models.items():
            foreign = bool(split_place(place)[0])
            given = check_labeler(place, self.outputs.get(name, "auto")) if foreign else METRIC
            check_alignment(name, given, self._alignment(name))

    def settings(self) -> dict[str, Any]:
        kinds = {
            name: "" if weights_of(place) is None else split_place(place)[0] for name, place in self.models.items()
        }
        return {**super().settings(), "models": kinds}

    def external(self) -> dict[str, Any]:
        return function_hashes(self.models.values())

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.report]

    def run(self, context: BarrierContext) -> None:
        panoramas = {name: self._held_out(context, column) for name, column in self.data.items()}
        predictions = {BLIND: _blind(context.run, self.blind, panoramas)}
        for name in self.models:
            context.say(f"predicting with {name}")
            predictions[name] = self._predict(name, context.assets.get(name), panoramas)
        figures = {
            name: {data: measure(panoramas[data], by_data[data], self._alignment(name)) for data in self.data}
            for name, by_data in predictions.items()
        }
        table = format_table(figures)
        for line in table.splitlines():
            context.say(line)
        with context.scratch() as scratch:
            folder = scratch / "report"
            folder.mkdir()
            (folder / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n")
            (folder / "table.txt").write_text(table + "\n")
            (folder / "examples.png").write_bytes(comparison_png(self._examples(panoramas, predictions)))
            count = sum(map(len, panoramas.values()))
            context.commit(self.report, folder, count, count)

    def _held_out(self, context: BarrierContext, column: str) -> list[Labelled]:
        rows = (row for receipt in context.inputs[column].values() for row in context.run.rows(receipt))
        found = [decode_labelled(row.key, row.fields) for row in rows if _split_of(row.fields) == self.split]
        if not found:
            raise BarrierError(f"{column} has no panorama of the split {self.split!r}")
        return found

    def _predict(
        self, name: str, weights: str | None, panoramas: dict[str, list[Labelled]]
    ) -> dict[str, list[Estimate]]:
        labeler = self._load(name, weights)
        return {data: _estimates(labeler, items, self.batch_size) for data, items in panoramas.items()}

    def _load(self, name: str, weights: str | None) -> Labeler:
        place = self.models[name]
        try:
            return make_labeler(
                place,
                weights=weights,
                device=self.device,
                batch_size=self.batch_size,
                patches=self.patches if split_place(place)[0] else None,
                output=self.outputs.get(name, "auto"),
            )
        except ValueError as error:
            raise BarrierError(str(error)) from error

    def _alignment(self, name: str) -> Alignment:
        return self.alignments.get(name, "none")

    def _examples(
        self, panoramas: dict[str, list[Labelled]], predictions: dict[str, dict[str, list[Estimate]]]
    ) -> list[dict[str, np.ndarray]]:
        """A few panoramas of each data set, spread over it: image, truth, and every model's prediction."""
        chosen = []
        for data, items in panoramas.items():
            for index in np.linspace(0, len(items) - 1, min(_PICTURED, len(items))).astype(int):
                maps = {
                    name: drawn_m(items[index], by[data][index], self._alignment(name))
                    for name, by in predictions.items()
                    if name != BLIND
                }
                chosen.append({"image": items[index].rgb, "truth": items[index].depth_m, **maps})
        return chosen


_COLUMNS = {"abs_rel": "AbsRel", "delta1": "delta1", "range_iou": "range IoU"}


def format_table(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """AbsRel (lower is better), delta1 and the overlap of the range mask (higher is better) by model and data set."""
    data, width = list(next(iter(figures.values()))), max(12, *(len(model) + 1 for model in figures))
    lines = [" " * width + "".join(f"{name:^33}" for name in data)]
    lines.append(" " * width + "".join(f"{title:>11}" for _ in data for title in _COLUMNS.values()))
    for model, by_data in figures.items():
        values = (by_data[name].get(column) for name in data for column in _COLUMNS)
        lines.append(
            f"{model:<{width}}" + "".join(f"{'-':>11}" if value is None else f"{value:>11.4f}" for value in values)
        )
    return "\n".join(lines)


def decode_labelled(key: str, fields: Any) -> Labelled:
    rgb = simplejpeg.decode_jpeg(fields["jpg"], colorspace="RGB")
    return Labelled(key, rgb, decode_depth_png(fields["depth.png"]).depth_m, _scene_of(fields))


def _split_of(fields: Any) -> str:
    return fields["json"].get("split", "train")


def _scene_of(fields: Any) -> str:
    """The scene type; panoramas that are brought in need not say one."""
    return fields["json"].get("scene", "unknown")


def _estimates(labeler: Labeler, items: list[Labelled], batch_size: int) -> list[Estimate]:
    """In batches, lest a model of others, which need not batch by itself, is handed all panoramas at once."""
    starts = range(0, len(items), batch_size)
    return [e for start in starts for e in labeler.estimate([item.rgb for item in items[start : start + batch_size]])]


def _blind(run: RunDir, column: str, panoramas: dict[str, list[Labelled]]) -> dict[str, list[Estimate]]:
    try:
        predictor = BlindPredictor(_training_depths(run, column))
    except ValueError as error:
        raise BarrierError(f"blind predictor on {column}: {error}") from error

    def predict(item: Labelled) -> Estimate:
        depth_m = predictor.predict(item.scene, item.depth_m.shape[0])
        return Estimate(depth_m, np.zeros_like(depth_m))

    return {data: [predict(item) for item in items] for data, items in panoramas.items()}


def _training_depths(run: RunDir, column: str) -> Iterator[tuple[np.ndarray, str]]:
    for entry in read_index(run.storage, column):
        if entry["split"] != "train":
            continue
        path = f"{column}/{entry['name']}"
        with run.storage.open(path) as stream:
            for row in read_rows(path, stream):
                yield decode_depth_png(row.fields["depth.png"]).depth_m, _scene_of(row.fields)


def measure(items: list[Labelled], estimates: list[Estimate], alignment: Alignment = "none") -> dict[str, Any]:
    """Figures of a model on panoramas, as `jobs.evaluate_measure` has them."""
    measurement = Measurement(alignment)
    for item, estimate in zip(items, estimates, strict=True):
        measurement.add(item, estimate)
    return measurement.figures()


def drawn_m(item: Labelled, estimate: Estimate, alignment: Alignment) -> np.ndarray:
    """An estimate (H, W) in metres as it is drawn: aligned, and inf where it is said to be beyond the range."""
    return Estimate(aligned_m(item, estimate, alignment).numpy(), estimate.beyond_range).masked()
