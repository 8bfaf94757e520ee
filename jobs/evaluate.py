"""Evaluation of several models on held-out labelled panoramas: a barrier that leaves figures, a table and a picture.

The two heads are judged apart: distances where the truth is within the range, the range mask by its overlap with what
is truly beyond it.
"""

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
from jobs.pictures import comparison_png
from models.depth_png import decode_depth_png
from models.inference import DepthPredictor, Prediction
from models.metrics import DepthMetrics
from stages.pack import read_index

BLIND = "blind"
_PICTURED = 3  # panoramas of each data set in the picture


@dataclass(frozen=True)
class Labelled:
    """A labelled panorama: image (H, W, 3) uint8, depth (H, W) in metres (nan missing, inf beyond), scene type."""

    key: str
    rgb: np.ndarray
    depth_m: np.ndarray
    scene: str


@dataclass
class Evaluate(Barrier):
    """Models and labelled columns to `reports/<report>`: evaluation.json, table.txt and examples.png.

    `models` maps the name shown to the weights, `data` the name shown to a labelled column, whose split `split` is
    used. The blind predictor learns from the training split of the packed column `blind`.
    """

    name: ClassVar[str] = "evaluate"

    models: dict[str, str]
    data: dict[str, str]
    blind: str
    split: str = "test"
    report: str = "evaluation"
    batch_size: int = 8
    device: str = field(default="auto")

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
        return dict(self.models)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "models": sorted(self.models)}

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.report]

    def run(self, context: BarrierContext) -> None:
        panoramas = {name: self._held_out(context, column) for name, column in self.data.items()}
        predictions = {BLIND: _blind(context.run, self.blind, panoramas)}
        for name, folder in context.assets.items():
            context.say(f"predicting with {name}")
            predictions[name] = self._predict(folder, panoramas)
        figures = {
            name: {data: measure(panoramas[data], by_data[data]) for data in self.data}
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
            (folder / "examples.png").write_bytes(comparison_png(_examples(panoramas, predictions)))
            count = sum(map(len, panoramas.values()))
            context.commit(self.report, folder, count, count)

    def _held_out(self, context: BarrierContext, column: str) -> list[Labelled]:
        rows = (row for receipt in context.inputs[column].values() for row in context.run.rows(receipt))
        found = [decode_labelled(row.key, row.fields) for row in rows if _split_of(row.fields) == self.split]
        if not found:
            raise BarrierError(f"{column} has no panorama of the split {self.split!r}")
        return found

    def _predict(self, folder: str, panoramas: dict[str, list[Labelled]]) -> dict[str, list[Prediction]]:
        predictor = DepthPredictor(folder, self.device, batch_size=self.batch_size)
        return {data: predictor.predict([item.rgb for item in items]) for data, items in panoramas.items()}


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


def _blind(run: RunDir, column: str, panoramas: dict[str, list[Labelled]]) -> dict[str, list[Prediction]]:
    try:
        predictor = BlindPredictor(_training_depths(run, column))
    except ValueError as error:
        raise BarrierError(f"blind predictor on {column}: {error}") from error

    def predict(item: Labelled) -> Prediction:
        depth_m = predictor.predict(item.scene, item.depth_m.shape[0])
        return Prediction(depth_m, np.zeros_like(depth_m))

    return {data: [predict(item) for item in items] for data, items in panoramas.items()}


def _training_depths(run: RunDir, column: str) -> Iterator[tuple[np.ndarray, str]]:
    for entry in read_index(run.storage, column):
        if entry["split"] != "train":
            continue
        path = f"{column}/{entry['name']}"
        with run.storage.open(path) as stream:
            for row in read_rows(path, stream):
                yield decode_depth_png(row.fields["depth.png"]).depth_m, _scene_of(row.fields)


def measure(items: list[Labelled], predictions: list[Prediction]) -> dict[str, Any]:
    """Distances where there is a true one within the range, and the range mask where anything is known."""
    metrics, overlap, union = DepthMetrics(), 0, 0
    for item, prediction in zip(items, predictions, strict=True):
        metrics.update(prediction.depth_m, item.depth_m, np.isfinite(item.depth_m))
        known, true, said = ~np.isnan(item.depth_m), np.isinf(item.depth_m), prediction.beyond_range > 0.5
        overlap += int((known & true & said).sum())
        union += int((known & (true | said)).sum())
    return {**_measured(metrics.compute()), "range_iou": overlap / union if union else None}


def _measured(values: dict[str, Any]) -> dict[str, Any]:
    """The figures, None for nan, which JSON does not know: of what nothing could be measured."""
    nested = {name: _measured(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in nested.items()}


def _examples(
    panoramas: dict[str, list[Labelled]], predictions: dict[str, dict[str, list[Prediction]]]
) -> list[dict[str, np.ndarray]]:
    """A few panoramas of each data set, spread over it: image, truth, and every model's prediction."""
    chosen = []
    for data, items in panoramas.items():
        for index in np.linspace(0, len(items) - 1, min(_PICTURED, len(items))).astype(int):
            maps = {name: by[data][index].masked_depth_m() for name, by in predictions.items() if name != BLIND}
            chosen.append({"image": items[index].rgb, "truth": items[index].depth_m, **maps})
    return chosen
