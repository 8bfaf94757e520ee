"""`dap evaluate`: a model on a data set with ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, get_args

import numpy as np

from ...engine.storage.place import is_uri
from ...models.datasets.base import DatasetError, Entry, Labelled
from ...models.datasets.catalogue import DATASETS
from ...models.datasets.perspective import PICTURE_SETS
from ...models.evaluation.measure import Measurement, drawn_m, estimates_of, json_ready, predictor_of
from ...models.evaluation.report import Worst, figures_tables, report_files
from ...models.inference.device import choose_device
from ...models.inference.embedded import EMBEDDED
from ...models.inference.precision import Precision
from ...models.labelers.load import DapLabeler, Estimate, Labeler, check_labeler, make_labeler
from ...models.labelers.outputs import OUTPUT_SETTINGS, check_alignment
from ...models.labelers.patches import Patches
from ...models.metrics.alignment import ALIGNMENTS
from ...models.metrics.equivariance import yaw_error
from ...stages.batches.dataset_root import DatasetRoot
from ..errors import EXIT_DONE, UsageError
from ..job import check_place
from ..output import output_folder, write_file
from ..tables import show_table
from .parts.loose_files import check_device
from .parts.perspective import add_picture_arguments, check_picture_arguments, evaluate_pictures
from .parts.temporal import SHOT_SETS, add_temporal_arguments, check_temporal_arguments, evaluate_temporal

_TURNED = 8  # panoramas that the error under yaw is measured on: each is predicted four times more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        metavar="PATH|hf:ID|diffusers:ID|unik3d:ID|…|python:MODULE:FUNCTION",
        help="a model folder of ours, or a model of others (default: the embedded one)",
    )
    parser.add_argument(
        "--dataset",
        required=True,
        choices=sorted({*DATASETS, *PICTURE_SETS, *SHOT_SETS}),
        help="shards: KEY.jpg, KEY.depth.png, KEY.json; stereo and perspective: pictures that are no panoramas",
    )
    parser.add_argument("--root", required=True, metavar="DIR|URI", help="folder of the data set, or s3://…")
    parser.add_argument("--split", metavar="NAME|LIST", help="a split's name, or a file with a pair IMAGE DEPTH a line")
    parser.add_argument("--alignment", default="none", choices=ALIGNMENTS, help="to the truth, before it is measured")
    parser.add_argument("--output", default="auto", choices=OUTPUT_SETTINGS, help="what a model of others gives")
    parser.add_argument("--patches", type=int, metavar="SIZE", help="a model of others sees 12 views of SIZE pixels")
    parser.add_argument(
        "--out",
        default="dap-evaluate",
        metavar="DIR",
        help="for the figures, also by image, and a picture (default: %(default)s)",
    )
    parser.add_argument("--yaw-turns", type=int, default=1, metavar="N", help="ours: mean over N predictions, turned")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="of ours; auto: bfloat16 on CUDA"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_picture_arguments(parser)
    add_temporal_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Prints the figures and saves them."""
    if arguments.batch_size < 1:
        raise UsageError("--batch-size must be at least 1")
    check_device(arguments.device)
    check_picture_arguments(arguments)
    check_temporal_arguments(arguments)
    place = check_place("--root", arguments.root) if is_uri(arguments.root) else arguments.root
    if arguments.dataset in SHOT_SETS:
        return evaluate_temporal(arguments, _load)
    if arguments.dataset in PICTURE_SETS:
        return evaluate_pictures(arguments, place, _load)
    root = DatasetRoot(arguments.dataset, place)
    try:
        entries = root.find(arguments.split)
        with redirect_stdout(sys.stderr):  # what a model of others has to say
            labeler = _load(arguments)
            out = output_folder(arguments.out)
            document, rows, worst = _measure(root, entries, labeler, arguments)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    for name, data in report_files(document, rows, worst).items():
        write_file(out / name, data)
    if arguments.json:
        print(json.dumps(document))
    else:
        split = f", split {arguments.split}" if arguments.split else ""
        print(f"{arguments.model} on {root}{split}, {document['precision'] or 'in its own precision'}")
        for table in figures_tables(document):
            show_table(table)
        print(f"by image, and the worst of them: {out}")
    return EXIT_DONE


def _load(arguments: argparse.Namespace) -> Labeler:
    try:
        patches = Patches(arguments.patches) if arguments.patches is not None else None
        check_alignment(arguments.model, check_labeler(arguments.model, arguments.output), arguments.alignment)
        return make_labeler(
            arguments.model,
            device=arguments.device,
            batch_size=arguments.batch_size,
            patches=patches,
            output=arguments.output,
            yaw_turns=arguments.yaw_turns,
            precision=arguments.precision,
        )
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error


def _measure(
    root: DatasetRoot, entries: list[Entry], labeler: Labeler, arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[dict[str, Any]], Worst]:
    """The figures, the row of every image, and the worst of them; holds one batch of panoramas at a time."""
    measurement, worst = Measurement(arguments.alignment, choose_device(arguments.device)), Worst()
    rows, first = [], []
    for items in _batches(root, entries, arguments.batch_size):
        for item, estimate in zip(items, _estimates(labeler, items, arguments.model), strict=True):
            row = measurement.add(item, estimate)
            if worst.wants(row["abs_rel"]):
                predicted_m = drawn_m(item, estimate, arguments.alignment)
                worst.keep(len(rows), row["abs_rel"], item.rgb, predicted_m, item.depth_m)
            rows.append({"key": item.key, "scene": item.scene, **row})
        first += [item.rgb for item in items[: _TURNED - len(first)]]
    _say_left_out(root, measurement.left_out, len(rows))
    figures = measurement.figures()
    if isinstance(labeler, DapLabeler):
        errors = [yaw_error(lambda r: labeler.estimate([r])[0].values, rgb) for rgb in first]
        figures["sphere"] |= json_ready({"yaw_error": float(np.mean(errors))})
    said = {name: getattr(arguments, name) for name in ("dataset", "split", "model")}
    return {**said, "output": labeler.output, "precision": labeler.precision, **figures}, rows, worst


def _say_left_out(root: DatasetRoot, count: int, panoramas: int) -> None:
    if count == panoramas:
        raise UsageError(f"{root}: no ground truth at all in any of its {panoramas} panoramas")
    if count:
        print(
            f"{root}: {count} of {panoramas} panoramas have no ground truth at all: left out of the errors",
            file=sys.stderr,
        )


def _estimates(labeler: Labeler, items: list[Labelled], model: str) -> list[Estimate]:
    try:
        return estimates_of(predictor_of(labeler), items)
    except ValueError as error:
        raise UsageError(f"--model {model}: {' '.join(str(error).split())}") from error


def _batches(root: DatasetRoot, entries: list[Entry], size: int) -> Iterator[list[Labelled]]:
    for start in range(0, len(entries), size):
        yield [root.read(entry) for entry in entries[start : start + size]]
