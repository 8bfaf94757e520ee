"""What an evaluation leaves: its figures, a table with a row for each image, and a picture of the worst ones."""

from __future__ import annotations

import heapq
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.table import Table

from ..drawing.depth import comparison_png
from ..metrics.depth import NAMES

_WORST = 5
_FULL_RED = 0.5  # a relative error from which on the picture does not get redder


@dataclass
class Worst:
    """The images with the greatest AbsRel so far, with what is drawn of them."""

    found: list[tuple[float, int, dict[str, np.ndarray]]] = field(default_factory=list)

    def wants(self, abs_rel: float) -> bool:
        """Whether an image of that error is one of the worst."""
        return not math.isnan(abs_rel) and (len(self.found) < _WORST or abs_rel > self.found[0][0])

    def keep(self, number: int, abs_rel: float, rgb: np.ndarray, predicted_m: np.ndarray, true_m: np.ndarray) -> None:
        """Adds an image; `number` is its row in the table, and decides between equal errors."""
        picture = {"input": rgb, "prediction": predicted_m, "truth": true_m, "error": colour_error(predicted_m, true_m)}
        add = heapq.heappush if len(self.found) < _WORST else heapq.heapreplace
        add(self.found, (abs_rel, -number, picture))

    def png(self) -> bytes:
        """The images, worst first."""
        return comparison_png(
            [picture for *_, picture in sorted(self.found, key=lambda entry: entry[:2], reverse=True)]
        )


def colour_error(predicted_m: np.ndarray, true_m: np.ndarray) -> np.ndarray:
    """Relative error (H, W) as (H, W, 3) uint8: dark is none, bright is `_FULL_RED` and more; gray without truth."""
    known = np.isfinite(true_m)
    true_m = np.where(known, true_m, 1.0)
    error = np.abs(np.where(np.isfinite(predicted_m), predicted_m, 100.0) - true_m) / true_m
    level = (255 * np.clip(error / _FULL_RED, 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colours, np.uint8(128))


def report_files(document: dict[str, Any], rows: Sequence[dict[str, Any]], worst: Worst) -> dict[str, bytes]:
    """By name: images.csv, images.parquet, if anything was measured worst.png, and evaluation.json."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [_null_for_nan(row.get(name)) for row in rows] for name in names})
    csv, parquet = io.BytesIO(), io.BytesIO()
    pa_csv.write_csv(table, csv)
    pq.write_table(table, parquet)
    pictures = {"worst.png": worst.png()} if worst.found else {}
    figures = json.dumps(document, indent=1) + "\n"
    return {"images.csv": csv.getvalue(), "images.parquet": parquet.getvalue(), **pictures} | {
        "evaluation.json": figures.encode()
    }


def _null_for_nan(value: Any) -> Any:
    return None if value != value else value


def figures_tables(document: dict[str, Any]) -> list[Table]:
    """For people: errors plain, by solid angle, pooled and as published; by distance, with and without the mask."""
    whole = {"mean": document, "solid angle": document["spherical"], "pooled": document["pooled"]}
    by_distance = []
    for kind, of in (("bands", ""), ("bands_masked", ", masked")):
        bands = {f"{band} m{of}": figures for band, figures in document.get(kind, {}).items()}
        by_distance += [_errors_table(bands, ("pixels", *NAMES))] if bands else []
    single = Table("figure", "value")
    for name, value in _single_figures(document).items():
        single.add_row(name, _text(value))
    published = {name: document[name] for name in ("official", "official_masked") if name in document}
    return [_errors_table(whole | published), *by_distance, single]


def _errors_table(kinds: dict[str, dict[str, Any]], names: Sequence[str] = NAMES) -> Table:
    table = Table("error", *kinds)
    for name in names:
        table.add_row(name, *(_text(figures[name]) for figures in kinds.values()))
    return table


def _single_figures(document: dict[str, Any]) -> dict[str, Any]:
    groups = (document.get(group, {}) for group in ("sharpness", "normals", "ssim", "sphere"))
    found = {k: v for group in groups for k, v in group.items() if not isinstance(v, dict) and k != "samples"}
    counts = {name: document[name] for name in ("samples", "left_out")}
    return counts | {"range_iou": document["range_iou"], **found}


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
