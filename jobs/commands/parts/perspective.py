"""`dap evaluate --dataset stereo` and `perspective`: models of perspective pictures, on such pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ....models.datasets.base import DatasetError, Entry
from ....models.datasets.perspective import KITTI_UNITS, PICTURE_SETS, Picture
from ....models.drawing.perspective import side_by_side
from ....models.drawing.png import encode_png
from ....models.evaluation.perspective import PictureMeasurement
from ....models.evaluation.report import Worst, report_files
from ....models.labelers.load import ForeignLabeler, Labeler, split_reference
from ....models.labelers.published import PUBLISHED
from ....models.metrics.depth import NAMES
from ....models.metrics.disparity import DISPARITY_NAMES
from ....stages.batches.dataset_root import DatasetRoot
from ...errors import EXIT_DONE, UsageError
from ...output import output_folder, write_file
from ...tables import show_table

_PICTURED = 10
_FLAGS = ("units", "focal", "baseline", "pictures")


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of these data sets alone."""
    group = parser.add_argument_group("--dataset stereo and perspective")
    group.add_argument(
        "--units",
        type=float,
        metavar="N",
        help=f"of a 16-bit PNG in a pixel or metre (default: {KITTI_UNITS:g}, KITTI's)",
    )
    group.add_argument("--focal", type=float, metavar="PIXELS", help="of the pictures, where no calibration says it")
    group.add_argument("--baseline", type=float, metavar="METRES", help="between the two, where no calibration says it")
    group.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help=f"of the first N: picture, truth, prediction, error, SSIM difference side by side (default: {_PICTURED})",
    )


def check_picture_arguments(arguments: argparse.Namespace) -> None:
    """UsageError for arguments that are not for the data set, or make no sense."""
    if arguments.dataset not in PICTURE_SETS:
        if given := [name for name in _FLAGS if getattr(arguments, name) is not None]:
            raise UsageError(f"--{given[0]} is for --dataset {' and '.join(PICTURE_SETS)}")
        return
    if arguments.patches is not None or arguments.yaw_turns != 1:
        raise UsageError("--patches and --yaw-turns are for panoramas")
    for name in ("units", "focal", "baseline"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name} must be positive, not {value:g}")
    if arguments.pictures is not None and arguments.pictures < 0:
        raise UsageError("--pictures must not be negative")
    if (scheme := split_reference(arguments.model)[0]) in ("", *PUBLISHED):
        what = f"{scheme}: is" if scheme else "ours are"
        raise UsageError(
            f"--model {arguments.model}: {what} for panoramas: give hf:ID, diffusers:ID or python:MODULE:F"
        )


def evaluate_pictures(arguments: argparse.Namespace, place: str, load: Callable[[argparse.Namespace], Labeler]) -> int:
    """Prints the figures and saves them, by picture too, and the pictures that are asked for."""
    pictures = PICTURE_SETS[arguments.dataset]
    if arguments.units is not None:
        pictures = replace(pictures, png_units=arguments.units)
    root: DatasetRoot[Picture] = DatasetRoot(pictures, place)
    try:
        entries = root.find(arguments.split)
        with redirect_stdout(sys.stderr):  # what a model of others has to say
            labeler = load(arguments)
            if not isinstance(labeler, ForeignLabeler):
                raise UsageError(f"--model {arguments.model}: ours are for panoramas")
            out = output_folder(arguments.out)
            output_folder(str(out / "pictures"))
            measurement = PictureMeasurement(arguments.alignment, pictures.is_stereo)
            rows = _measure(root, entries, labeler, measurement, arguments, out)
    except DatasetError as error:
        raise UsageError(str(error)) from error
    if measurement.left_out == len(rows):
        raise UsageError(f"{root}: no truth at all in any of its {len(rows)} pictures")
    said = {name: getattr(arguments, name) for name in ("dataset", "split", "model")}
    document = {**said, "output": labeler.output, "precision": labeler.precision, **measurement.figures()}
    for name, data in report_files(document, rows, Worst()).items():
        write_file(out / name, data)
    if arguments.json:
        print(json.dumps(document))
    else:
        print(f"{arguments.model} on {root}, {len(rows)} pictures, alignment {arguments.alignment}")
        show_table(_table(document))
        print(f"by picture, and pictures of them: {out}")
    return EXIT_DONE


def _measure(
    root: DatasetRoot[Picture],
    entries: list[Entry],
    labeler: Labeler,
    measurement: PictureMeasurement,
    arguments: argparse.Namespace,
    out: Path,
) -> list[dict[str, Any]]:
    """A row for every picture; writes the first ones. Holds one batch of pictures at a time."""
    pictured = _PICTURED if arguments.pictures is None else arguments.pictures
    rows: list[dict[str, Any]] = []
    for start in range(0, len(entries), arguments.batch_size):
        batch = [_read(root, entry, arguments) for entry in entries[start : start + arguments.batch_size]]
        try:
            estimates = labeler.estimate([picture.rgb for picture in batch])
            for picture, estimate in zip(batch, estimates, strict=True):
                if np.isnan(estimate.values).any():
                    raise ValueError(f"gives nan for {picture.key}")
                row, predicted, difference = measurement.add(picture, estimate.values)
                if len(rows) < pictured:
                    drawn = side_by_side(picture.rgb, picture.truth, predicted, difference)
                    write_file(out / "pictures" / f"{picture.key}.png", encode_png(drawn))
                rows.append({"key": picture.key, **row})
        except ValueError as error:
            raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error
    return rows


def _read(root: DatasetRoot[Picture], entry: Entry, arguments: argparse.Namespace) -> Picture:
    """A picture, with the focal length and the baseline that are given."""
    given = {"focal_px": arguments.focal, "baseline_m": arguments.baseline}
    return replace(root.read(entry), **{name: value for name, value in given.items() if value is not None})


def _table(document: dict[str, Any]) -> Table:
    table = Table("figure", "mean", "pooled")
    disparity = document["disparity"]
    rows = {name: (disparity[name], disparity["pooled"][name]) for name in DISPARITY_NAMES if disparity}
    rows |= {name: (document[name], document["pooled"][name]) for name in NAMES}
    rows[f"ssim of {document['ssim_of']}"] = (document["ssim"], None)
    for name, values in rows.items():
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
    return table
