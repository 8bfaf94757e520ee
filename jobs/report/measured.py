"""A model measured on labelled panoramas of the run, for the page of evaluations: figures, and the worst images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...engine.records.sample import Row
from ...models.data.depth_png import decode_depth_m, encode_depth_png
from ...models.evaluation.measure import Measurement, drawn_m, estimates_of, predictor_of
from ...models.evaluation.report import colour_error
from ...models.labelers.load import Labeler, make_labeler
from ...models.labelers.outputs import check_metric
from ...stages.reports.labelled import decode_labelled
from ..errors import UsageError
from .pictures import PICTURE_HEIGHT, depth_jpeg, jpeg, picture_jpeg, small_rgb
from .progress import tracked
from .run_data import RunData
from .samples import Fact
from .scenes import Scenes
from .site import Site

_MOST = 200  # panoramas, the first of the held-out ones
_WORST = 12
_AT_ONCE = 8


def write_measured(site: Site, scenes: Scenes, data: RunData, model: str, column: str) -> dict[str, Any]:
    """Figures of a model, and the worst images, whose pictures are written.

    The model is one of the run, by its name, or one that `dap evaluate` takes.

    Raises:
        UsageError: the run has no such column, or the model cannot be loaded or gives no metres.
    """
    if not column.startswith("labelled-") or column not in data.columns:
        raise UsageError(f"--data {column}: the run has {data.named('labelled-') or 'no labelled column'}")
    rows = _held_out(data, column)
    measurement, errors = Measurement(), list[tuple[float, str, Row, bytes]]()
    with tempfile.TemporaryDirectory() as folder:
        predict = predictor_of(_load(data, model, Path(folder)))
        for start in tracked(model, range(0, len(rows), _AT_ONCE)):
            items = [decode_labelled(row) for row in rows[start : start + _AT_ONCE]]
            for row, item, estimate in zip(rows[start:], items, estimates_of(predict, items), strict=False):
                abs_rel = measurement.add(item, estimate)["abs_rel"]
                predicted_m = drawn_m(item, estimate, "none")
                if abs_rel == abs_rel:
                    errors.append((abs_rel, row.key, row, encode_depth_png(predicted_m)))
                    errors = sorted(errors, key=lambda entry: (-entry[0], entry[1]))[:_WORST]
    worst = []
    for abs_rel, key, row, predicted in errors:
        truth = row.fields["depth.png"]
        site.write(f"pictures/{key}.jpg", jpeg(small_rgb(row.fields["jpg"], PICTURE_HEIGHT)))
        site.write(f"pictures/{key}.truth.jpg", depth_jpeg(truth))
        site.write(f"pictures/{key}.predicted.jpg", depth_jpeg(predicted))
        error = colour_error(decode_depth_m(predicted), decode_depth_m(truth))
        site.write(f"pictures/{key}.error.jpg", picture_jpeg(error))
        facts = [Fact(f"AbsRel of {model}", f"{abs_rel:.4f}", "evaluation.html#measured")]
        scenes.add(key, row.fields["jpg"], {model: predicted, "ground truth": truth}, facts)
        worst.append({"key": key, "abs_rel": abs_rel})
    return {"model": model, "data": column, "figures": measurement.figures(), "worst": worst}


def _held_out(data: RunData, column: str) -> list[Row]:
    """The test split of a labelled column, or all of it where there is none."""
    found = list(islice((row for row in _rows(data, column) if row.fields["json"].get("split") == "test"), _MOST))
    return found or list(islice(_rows(data, column), _MOST))


def _rows(data: RunData, column: str) -> Iterator[Row]:
    return (row for receipt in data.column(column).values() for row in data.run.rows(receipt))


def _load(data: RunData, model: str, folder: Path) -> Labeler:
    try:
        own = (
            data.run.storage.fetch_folder(f"models/{model}", folder / "model")
            if model in data.column("models")
            else None
        )
        labeler = make_labeler(str(own) if own else model)
        check_metric(model, labeler.output)
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {model}: {' '.join(str(error).split())}") from error
    return labeler
