"""Pages of what came of a run: the overview, trainings, evaluations, lineage."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ...engine.quantities import duration
from ...stages.packing.index import read_index
from ..lineage.model import ModelLineage
from . import charts
from .run_data import RunData
from .samples import Samples
from .site import Site

_CURVES_FILE = "training/metrics.csv"
_IMAGES = "training/images/"
_MOST_IMAGES = 4
_MOST_POINTS = 2000
_STEPS = {"tags": "tagged", "labels-": "labelled", "scores-": "scored", "selection-": "selected"}
_FIGURES = {"abs_rel": "AbsRel", "rmse": "RMSE", "delta1": "δ1", "range_iou": "range IoU"}


def write_overview(site: Site, data: RunData, samples: Samples, scenes: list[str]) -> None:
    """From videos to training samples, and what every column took in, gave out and dropped."""
    columns = [
        {
            "name": name,
            "shards": len(receipts),
            "in": receipts.samples[0],
            "out": receipts.samples[1],
            "drops": receipts.drops,
            "failed": len(receipts.failed),
            "seconds": sum(receipt.seconds for receipt in receipts.values()),
        }
        for name, receipts in data.columns.items()
    ]
    total = sum(data.columns[name].samples[1] for name in data.image_columns)
    packed = {name: {"splits": _splits(data, name), "sources": data.sources(name)} for name in data.named("train-")}
    site.page(
        "index.html",
        "index",
        chart=charts.funnel(counts) if len(counts := _funnel(data)) > 1 else None,
        columns=columns,
        packed=packed,
        total=total,
        samples=samples,
        data=data,
        scenes=scenes,
        videos=_videos(data),
    )


def _funnel(data: RunData) -> dict[str, int]:
    """Frames from those looked at to those in training sets, of the columns that the run has."""
    counts: dict[str, int] = {}
    if images := [data.columns[name] for name in data.image_columns]:
        counts["frames kept"] = sum(receipts.samples[1] for receipts in images)
        dropped = sum(sum(receipts.drops.values()) for receipts in images)
        counts = {"frames looked at": counts["frames kept"] + dropped, **counts}
    for prefix, words in _STEPS.items():
        counts |= {f"{words}: {name}": data.columns[name].samples[1] for name in data.named(prefix)}
    for name in data.named("train-"):
        counts[f"in training set {name.removeprefix('train-')}"] = data.packed_frames(name)
    return {words: count for words, count in counts.items() if count}


def _videos(data: RunData) -> str:
    """The planned footage in words."""
    if "plan" not in data.columns:
        return ""
    seconds = pc.sum(data.whole_table("plan")["seconds"]).as_py()
    return f"{data.columns['plan'].samples[1]:,} videos" + (f", {duration(seconds)} of footage" if seconds else "")


def _splits(data: RunData, column: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for shard in read_index(data.run.storage, column):
        found[shard["split"]] = found.get(shard["split"], 0) + shard["samples"]
    return found


def write_training(site: Site, data: RunData) -> None:
    """Curves of every training, finished or going on, with its validation figures and latest pictures."""
    files = data.run.storage.list("models")
    names = sorted({PurePosixPath(path).parts[0] for path in files} | set(data.column("models")))
    trainings = []
    for name in names:
        receipt = data.column("models").get(name)
        pictures = [path for path in files if path.startswith(f"{name}/{_IMAGES}")]
        pictures.sort(key=lambda path: int("".join(filter(str.isdigit, PurePosixPath(path).stem)) or 0))
        trainings.append(
            {
                "name": name,
                "done": receipt is not None,
                "basis": receipt.basis if receipt else None,
                "seconds": receipt.seconds if receipt else 0.0,
                "validation": _lineage(data, name).get("validation", {}),
                "charts": _curves(data, name) if f"{name}/{_CURVES_FILE}" in files else [],
                "pictures": [_copied(site, data, f"models/{path}") for path in pictures[-_MOST_IMAGES:]],
            }
        )
    site.page("training.html", "training", trainings=trainings)


def _lineage(data: RunData, model: str) -> dict[str, Any]:
    try:
        return json.loads(data.run.storage.read_bytes(f"models/{model}/lineage.json"))
    except FileNotFoundError:
        return {}


def _curves(data: RunData, model: str) -> list[charts.Chart]:
    """A chart for figures of each kind (`loss/silog` and `loss/total` share one), over steps."""
    written = data.run.storage.read_bytes(f"models/{model}/{_CURVES_FILE}")
    try:
        table = pa_csv.read_csv(io.BytesIO(written[: written.rfind(b"\n") + 1]))  # a line may be being written
    except pa.ArrowInvalid:  # no figure yet
        return []
    steps, kinds = table["step"].to_pylist(), dict[str, dict[str, tuple[list[float], list[float]]]]()
    for name in table.column_names:
        if name == "step" or not (pa.types.is_floating(table[name].type) or pa.types.is_integer(table[name].type)):
            continue
        points = [(x, y) for x, y in zip(steps, table[name].to_pylist(), strict=True) if y is not None]
        points = points[:: max(1, len(points) // _MOST_POINTS)]
        kinds.setdefault(name.rpartition("/")[0], {})[name] = ([x for x, _ in points], [y for _, y in points])
    return [charts.curves(lines, "step", _positive(lines)) for lines in kinds.values()]


def _positive(lines: Mapping[str, tuple[list[float], list[float]]]) -> bool:
    return all(y > 0 for _, ys in lines.values() for y in ys)


def _copied(site: Site, data: RunData, path: str) -> str:
    return site.write(f"pictures/{path.replace('/', '.')}", data.run.storage.read_bytes(path))


def write_evaluation(site: Site, data: RunData, measured: dict[str, Any] | None) -> None:
    """The tables and pictures of every report of the run, and of a model that was measured for this one."""
    reports = []
    for name, receipt in data.column("reports").items():
        files = data.run.storage.list(receipt.output.path)
        table = f"{receipt.output.path}/table.txt"
        reports.append(
            {
                "name": name,
                "step": receipt.basis.step,
                "table": data.run.storage.read_bytes(table).decode() if "table.txt" in files else "",
                "pictures": [
                    _copied(site, data, f"{receipt.output.path}/{file}") for file in files if file.endswith(".png")
                ],
                **_evaluated(data, f"{receipt.output.path}/evaluation.json", "evaluation.json" in files),
            }
        )
    site.page("evaluation.html", "evaluation", reports=reports, names=_FIGURES, measured=measured)


def _evaluated(data: RunData, path: str, there: bool) -> dict[str, Any]:
    """Figures by model and data set, and a chart of their AbsRel."""
    if not there:
        return {"figures": {}, "chart": None}
    figures = json.loads(data.run.storage.read_bytes(path))
    bars = {model: {name: of.get("abs_rel") for name, of in sets.items()} for model, sets in figures.items()}
    return {"figures": figures, "chart": charts.grouped_bars(bars, "AbsRel, lower is better")}


def write_lineage(site: Site, data: RunData) -> None:
    """Every column and every model, with links to what each was made from."""
    lineage = ModelLineage(data.run, asks_recipe=False)
    models = list(data.column("models"))
    documents = {name: lineage.of(name) for name in models}
    columns = {name: lineage.column(name) for name in data.columns if name not in ("models", "reports")}
    site.page("lineage.html", "lineage", models=documents, columns=columns)
