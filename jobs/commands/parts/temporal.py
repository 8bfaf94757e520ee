"""`dap evaluate --temporal`: how labels of consecutive frames agree, on simulated footage."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ....models.datasets.base import DatasetError
from ....models.datasets.film import Film, find_films, read_film
from ....models.evaluation.measure import json_ready
from ....models.evaluation.report import Worst, report_files
from ....models.evaluation.temporal import TEMPORAL_NAMES, aligned_shot_m, temporal_figures
from ....models.labelers.load import Labeler
from ....models.labelers.outputs import METRIC
from ....models.labelers.shot_scale import scale_step, steady_factors
from ...errors import EXIT_DONE, UsageError
from ...output import output_folder, write_file
from ...tables import show_table

FILM = "film"


def add_temporal_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of footage alone."""
    group = parser.add_argument_group(f"--dataset {FILM}: footage of the step `film`, or of dap simulate")
    group.add_argument("--temporal", action="store_true", help="how the labels of consecutive frames agree")
    group.add_argument(
        "--fuse-scale", type=int, default=0, metavar="N", help="make their scale steady, as the step fuse-scale does"
    )


def check_temporal_arguments(arguments: argparse.Namespace) -> None:
    """UsageError for arguments that do not go together."""
    if arguments.temporal != (arguments.dataset == FILM):
        raise UsageError(f"--temporal and --dataset {FILM} go together")
    if arguments.fuse_scale < 0 or (arguments.fuse_scale and not arguments.temporal):
        raise UsageError("--fuse-scale is for --temporal, and a number of frames")


def evaluate_temporal(arguments: argparse.Namespace, load: Callable[[argparse.Namespace], Labeler]) -> int:
    """Prints the figures and saves them, by film, too. Holds one film at a time."""
    try:
        films = find_films(Path(arguments.root))
        with redirect_stdout(sys.stderr):  # what a model of others has to say
            labeler = load(arguments)
            if arguments.fuse_scale and labeler.output != METRIC:
                raise UsageError(f"--model {arguments.model} gives {labeler.output}: --fuse-scale is for metres")
            out = output_folder(arguments.out)
            rows = [_row(read_film(path), labeler, arguments) for path in films]
    except DatasetError as error:
        raise UsageError(str(error)) from error
    said = {name: getattr(arguments, name) for name in ("dataset", "model", "alignment", "fuse_scale")}
    means = json_ready({name: float(np.mean([row[name] for row in rows])) for name in TEMPORAL_NAMES})
    counts = {"films": len(rows), "frames": sum(row["frames"] for row in rows)}
    document = {**said, "output": labeler.output, "precision": labeler.precision, **counts, **means}
    for name, data in report_files(document, rows, Worst()).items():
        write_file(out / name, data)
    if arguments.json:
        print(json.dumps(document))
    else:
        table = Table("figure", "mean over films")
        for name in TEMPORAL_NAMES:
            table.add_row(name, "-" if document[name] is None else f"{document[name]:.4f}")
        show_table(table)
        print(f"by film: {out}")
    return EXIT_DONE


def _row(film: Film, labeler: Labeler, arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        estimates = labeler.estimate_shot(film.rgbs)
    except ValueError as error:
        raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error
    values = np.stack([estimate.values for estimate in estimates])
    if np.isnan(values).any():
        raise UsageError(f"--model {arguments.model}: gives nan for {film.name}")
    if arguments.fuse_scale:
        masked = (estimate.masked() for estimate in estimates)
        steps = [scale_step(one, other) for one, other in pairwise(masked)]
        values = values * steady_factors(steps, arguments.fuse_scale)[:, None, None]
    predicted_m = aligned_shot_m(film, values, arguments.alignment)
    return {"film": film.name, "frames": len(film.rgbs), **temporal_figures(film, predicted_m)}
