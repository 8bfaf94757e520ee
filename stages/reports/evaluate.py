"""Evaluation of several models on held-out labelled panoramas: a barrier that leaves figures, a table and a picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...engine.rundir.rundir import RunDir
from ...engine.steps.asset_settings import AssetUri
from ...engine.steps.barrier import BarrierContext, BarrierError
from ...models.data.depth_png import decode_depth_png
from ...models.datasets.base import Labelled
from ...models.evaluation.blind import BlindPredictor
from ...models.inference.precision import Precision
from ...models.labelers.load import (
    Estimate,
    Labeler,
    check_labeler,
    function_hashes,
    make_labeler,
    sees_whole_panoramas,
    split_reference,
    weights_of,
)
from ...models.labelers.outputs import OutputSetting, check_alignment
from ...models.labelers.patches import Patches
from ...models.metrics.alignment import Alignment
from .labelled import decode_labelled, held_out, packed_rows, scene_of
from .report import Report

if TYPE_CHECKING:
    from ...models.evaluation.measure import Predict

BLIND = "blind"
_PICTURED = 3  # panoramas of each data set in the picture


@dataclass
class Evaluate(Report):
    """Models and labelled columns to `reports/<report>`: evaluation.json, table.txt and examples.png.

    `models` maps the name shown to the weights, `data` the name shown to a labelled or packed column, whose split
    `split` is used. The blind predictor learns from the training split of the packed column `blind`.

    Models of others stand beside ours under their schemes (`models.labelers.load`), on whole panoramas or on `patches`.
    `outputs` says what one gives if it does not, `alignments` how it is brought to the truth before it is measured,
    by the names of models: what is relative can be measured with one alone.
    """

    name: ClassVar[str] = "evaluate"

    models: dict[str, AssetUri]
    data: dict[str, str]
    blind: str
    split: str = "test"
    report: str = "evaluation"
    batch_size: int = 8
    device: str = field(default="auto")
    precision: Precision = "float32"  # of our models; those of others run in float32
    patches: Patches | None = None
    outputs: dict[str, OutputSetting] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if BLIND in self.models:
            raise ValueError(f"evaluate: a model cannot be named {BLIND!r}, as the baseline is")
        if self.batch_size < 1:
            raise ValueError("evaluate: batch_size must be at least 1")
        if unknown := sorted({*self.outputs, *self.alignments} - set(self.models)):
            raise ValueError(f"evaluate: outputs and alignments name {unknown[0]!r}, which is none of the models")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.data.values(), self.blind]))

    def assets(self) -> dict[str, str]:
        return {name: weights for name, model in self.models.items() if (weights := weights_of(model))}

    def check(self) -> None:
        for name, model in self.models.items():
            check_alignment(name, check_labeler(model, self.outputs.get(name, "auto")), self._alignment(name))
        function_hashes(self.models.values())

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "models": {name: split_reference(model)[0] for name, model in self.models.items()},
        }

    def external(self) -> dict[str, Any]:
        return function_hashes(self.models.values())

    def run(self, context: BarrierContext) -> None:
        from ...models.drawing.depth import comparison_png
        from ...models.evaluation.measure import predictor_of

        counts = {data: self._count(context, column) for data, column in self.data.items()}
        examples = _examples(counts)
        figures = {BLIND: self._measure(context, BLIND, _blind(context.run, self.blind), examples)}
        for name in self.models:
            context.log(f"predicting with {name}")
            labeler = self._load(name, context.assets.get(name))
            predict, seconds = _timed(predictor_of(labeler))
            figures[name] = self._measure(context, name, predict, examples)
            context.log(f"{name}: {sum(counts.values()) / sum(seconds):.1f} panoramas/s")
            del labeler  # before the next one is loaded
        pictures = {"examples.png": comparison_png(list(examples.values()))}
        tables = f"{format_table(figures)}\n{format_bands(figures)}"
        self.publish(context, {"evaluation.json": figures}, tables, pictures, sum(counts.values()))

    def _count(self, context: BarrierContext, column: str) -> int:
        if not (count := sum(1 for _ in held_out(context, column, self.split))):
            raise BarrierError(f"{column} has no panorama of the split {self.split!r}")
        return count

    def _measure(
        self, context: BarrierContext, name: str, predict: Predict, examples: dict[tuple[str, int], dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Figures of a model on every data set, from a batch at a time; adds what it gives to the examples."""
        from ...models.evaluation.measure import Measurement

        figures = {}
        for data, column in self.data.items():
            measurement, rows = Measurement(self._alignment(name)), enumerate(held_out(context, column, self.split))
            while batch := [(number, decode_labelled(row)) for number, row in islice(rows, self.batch_size)]:
                estimates = _estimates(name, predict, [item for _, item in batch])
                for (number, item), estimate in zip(batch, estimates, strict=True):
                    measurement.add(item, estimate)
                    if (picture := examples.get((data, number))) is not None:
                        self._draw(picture, name, item, estimate)
            figures[data] = measurement.figures()
            if name == BLIND and measurement.left_out:  # once
                context.log(f"{column}: {measurement.left_out} panoramas have no ground truth at all: left out")
        return figures

    def _draw(self, picture: dict[str, Any], name: str, item: Labelled, estimate: Estimate) -> None:
        from ...models.evaluation.measure import drawn_m

        if name == BLIND:  # which is the first, and not worth a picture
            picture |= {"image": item.rgb, "truth": item.depth_m}
        else:
            picture[name] = drawn_m(item, estimate, self._alignment(name))

    def _load(self, name: str, weights: str | None) -> Labeler:
        model = self.models[name]
        foreign = bool(split_reference(model)[0])
        try:
            return make_labeler(
                model,
                weights=weights,
                device=self.device,
                batch_size=self.batch_size,
                patches=None if sees_whole_panoramas(model) else self.patches,
                output=self.outputs.get(name, "auto"),
                precision="float32" if foreign else self.precision,
            )
        except ValueError as error:
            raise BarrierError(str(error)) from error

    def _alignment(self, name: str) -> Alignment:
        return self.alignments.get(name, "none")


def _examples(counts: dict[str, int]) -> dict[tuple[str, int], dict[str, Any]]:
    """A few panoramas of each data set, spread over it, by name and number: what is to be drawn of them."""
    spread = {data: np.linspace(0, count - 1, min(_PICTURED, count)).astype(int) for data, count in counts.items()}
    return {(data, int(number)): {} for data, numbers in spread.items() for number in numbers}


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


def format_bands(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """AbsRel by distance: of all pixels, and of those that the range mask leaves, with their share."""
    lines, width = list[str](), max(12, *(len(model) + 1 for model in figures))
    for name, first in next(iter(figures.values())).items():
        lines += ["", f"{name}: AbsRel by distance | with the range mask (share of the pixels that it leaves)"]
        lines.append(" " * width + "".join(f"{f'{band} m':>26}" for band in first["bands"]))
        for model, by_data in figures.items():
            lines.append(f"{model:<{width}}" + "".join(_band(by_data[name], band) for band in first["bands"]))
    return "\n".join(lines)


def _band(figures: dict[str, Any], band: str) -> str:
    plain, masked = figures["bands"][band]["abs_rel"], figures.get("bands_masked", {}).get(band)
    texts = ["-" if plain is None else f"{plain:.4f}"]
    if masked and masked["share_left"] is not None:
        error = "-" if masked["abs_rel"] is None else f"{masked['abs_rel']:.4f}"
        texts.append(f"{error} ({masked['share_left']:.1%})")
    return f"{' | '.join(texts):>26}"


def _estimates(name: str, predict: Predict, items: list[Labelled]) -> list[Estimate]:
    from ...models.evaluation.measure import estimates_of

    try:
        return estimates_of(predict, items)
    except ValueError as error:
        raise BarrierError(f"{name}: {error}") from error


def _timed(predict: Predict) -> tuple[Predict, list[float]]:
    """The same, and the seconds of each batch. They are no part of the report, whose bytes are always the same."""
    seconds: list[float] = []

    def timed(items: list[Labelled]) -> list[Estimate]:
        start = time.monotonic()
        estimates = predict(items)
        seconds.append(time.monotonic() - start)
        return estimates

    return timed, seconds


def _blind(run: RunDir, column: str) -> Predict:
    try:
        predictor = BlindPredictor(_training_depths(run, column))
    except ValueError as error:
        raise BarrierError(f"blind predictor on {column}: {error}") from error

    def predict(items: list[Labelled]) -> list[Estimate]:
        depths_m = [predictor.predict(item.scene, item.depth_m.shape[0]) for item in items]
        return [Estimate(depth_m, np.zeros_like(depth_m)) for depth_m in depths_m]

    return predict


def _training_depths(run: RunDir, column: str) -> Iterator[tuple[np.ndarray, str]]:
    for row in packed_rows(run, column, "train"):
        yield decode_depth_png(row.fields["depth.png"]).depth_m, scene_of(row.fields)
