"""`dap evaluate --temporal`: how labels of consecutive frames agree, on simulated footage with its truth, or on any."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ....engine.storage.place import is_uri, without_secrets
from ....models.datasets.base import DatasetError
from ....models.datasets.film import Film, find_films, read_film
from ....models.datasets.footage import Shot, read_frames
from ....models.evaluation.measure import json_ready
from ....models.evaluation.report import Worst, report_files
from ....models.evaluation.temporal import (
    FILM_NAMES,
    FOOTAGE_NAMES,
    aligned_shot_m,
    film_figures,
    footage_figures,
    mean_of,
)
from ....models.labelers.load import Estimate, Labeler, check_labeler
from ....models.labelers.outputs import METRIC
from ....models.labelers.shot_scale import scale_step, steady_factors
from ....models.support.files import FileError
from ....stages.footage.fetch import local_copy
from ....stages.footage.listing import Video, find_videos
from ...errors import EXIT_DONE, UsageError
from ...output import output_folder, write_file
from ...tables import show_table
from .loose_files import check_sampling

FILM, FOOTAGE = "film", "footage"
SHOT_SETS = (FILM, FOOTAGE)
_FRAMES, _EVERY_S, _HEIGHT = 16, 0.2, 512


def add_temporal_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of footage alone."""
    group = parser.add_argument_group(
        f"--dataset {FILM} and {FOOTAGE}",
        f"{FILM}: of the step `film`, or of dap simulate, with its truth; {FOOTAGE}: any 360° videos, without",
    )
    group.add_argument("--temporal", action="store_true", help="how the labels of consecutive frames agree")
    group.add_argument(
        "--fuse-scale", type=int, default=0, metavar="N", help="make their scale steady, as the step fuse-scale does"
    )
    group.add_argument(
        "--frames", type=int, default=_FRAMES, metavar="N", help=f"{FOOTAGE}: of every video (default: {_FRAMES})"
    )
    group.add_argument(
        "--every",
        dest="every_s",
        type=float,
        default=_EVERY_S,
        metavar="SECONDS",
        help=f"from one to the next (default: {_EVERY_S})",
    )
    group.add_argument(
        "--height", type=int, default=_HEIGHT, metavar="PIXELS", help=f"that they get (default: {_HEIGHT})"
    )


def check_temporal_arguments(arguments: argparse.Namespace) -> None:
    """UsageError for arguments that do not go together, or make no sense."""
    if arguments.temporal != (arguments.dataset in SHOT_SETS):
        raise UsageError(f"--temporal and --dataset {FILM} or {FOOTAGE} go together")
    if arguments.fuse_scale < 0 or (arguments.fuse_scale and not arguments.temporal):
        raise UsageError("--fuse-scale is for --temporal, and a number of frames")
    if arguments.temporal and arguments.split is not None:
        raise UsageError(f"--split: {FILM} and {FOOTAGE} have none")
    if arguments.dataset == FILM and is_uri(arguments.root):
        raise UsageError(f"--root {without_secrets(arguments.root)}: films are read from a folder of this machine")
    if arguments.dataset != FOOTAGE:
        if (arguments.frames, arguments.every_s, arguments.height) != (_FRAMES, _EVERY_S, _HEIGHT):
            raise UsageError(f"--frames, --every and --height are for --dataset {FOOTAGE}")
        return
    check_sampling(arguments.every_s, arguments.height)
    if arguments.frames < 2:
        raise UsageError("--frames must be at least 2")
    if arguments.alignment != "none":
        raise UsageError(f"--alignment {arguments.alignment} needs a truth, and --dataset {FOOTAGE} has none")


def evaluate_temporal(arguments: argparse.Namespace, load: Callable[[argparse.Namespace], Labeler]) -> int:
    """Prints the figures and saves them, by film or video, too. Holds one of them at a time."""
    word, names = ("film", FILM_NAMES) if arguments.dataset == FILM else ("video", FOOTAGE_NAMES)
    try:
        shots = _films(arguments) if arguments.dataset == FILM else _footage(arguments)
        _check_metres(arguments)
        with redirect_stdout(sys.stderr):  # what a model of others has to say
            labeler = load(arguments)
            out = output_folder(arguments.out)
            rows = [{word: shot.name, "frames": len(shot.rgbs), **_figures(shot, labeler, arguments)} for shot in shots]
    except DatasetError as error:
        raise UsageError(str(error)) from error
    settings = ("dataset", "model", "alignment", "fuse_scale", *(() if word == "film" else ("every_s", "height")))
    said = {name: getattr(arguments, name) for name in settings}
    counts = {name: sum(row[name] for row in rows) for name in ("frames", "pairs", "left_out") if name in rows[0]}
    means = json_ready({name: mean_of([row[name] for row in rows]) for name in names})
    document = {**said, "output": labeler.output, "precision": labeler.precision, f"{word}s": len(rows)}
    document |= {**counts, **means}
    for name, data in report_files(document, rows, Worst()).items():
        write_file(out / name, data)
    if arguments.json:
        print(json.dumps(document))
    else:
        table = Table("figure", f"mean over {word}s")
        for name in names:
            table.add_row(name, "-" if document[name] is None else f"{document[name]:.4f}")
        show_table(table)
        if document.get("left_out"):
            print(f"pairs of frames left out, without a rotation or much to compare: {document['left_out']}")
        print(f"by {word}: {out}")
    return EXIT_DONE


def _films(arguments: argparse.Namespace) -> Iterator[Shot]:
    """Finds films now, and reads each when it is asked for; raises DatasetError."""
    return map(read_film, find_films(Path(arguments.root)))


def _footage(arguments: argparse.Namespace) -> Iterator[Shot]:
    """Finds videos now, and reads each when it is asked for; raises UsageError.

    Those of several that cannot be read are left out, with a line on stderr; but not all of them.
    """
    try:
        videos = find_videos(arguments.root)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return _readable(videos, arguments)


def _readable(videos: list[Video], arguments: argparse.Namespace) -> Iterator[Shot]:
    problems = []
    for video in videos:
        try:
            yield _read(video, arguments)
        except FileError as error:
            problems.append(f"{video.relative}: {error}")
            if len(problems) == len(videos):
                raise UsageError(problems[0]) from error
            print(f"left out: {problems[-1]}", file=sys.stderr)


def _read(video: Video, arguments: argparse.Namespace) -> Shot:
    """The first frames of a video, or of the segment that is wanted of it; raises FileError."""
    start_s = video.start_s or 0.0
    end_s = min(start_s + arguments.frames * arguments.every_s, video.end_s or math.inf)
    with local_copy(video.uri, "") as path:
        rgbs = read_frames(path, arguments.every_s, arguments.height, start_s=start_s, end_s=end_s)
    if len(rgbs) < 2:
        raise FileError("too_short", f"{len(rgbs)} frame every {arguments.every_s:g} s, and two are compared")
    return Shot(video.relative, rgbs)


def _check_metres(arguments: argparse.Namespace) -> None:
    """UsageError for a model without metres where there is no truth to align it to, or a scale to be made steady."""
    if arguments.dataset == FILM and not arguments.fuse_scale:
        return
    output = METRIC
    with suppress(ValueError, OSError):  # loading will tell
        output = check_labeler(arguments.model, arguments.output)
    if output != METRIC:
        what = "--fuse-scale" if arguments.dataset == FILM else f"--dataset {FOOTAGE}"
        raise UsageError(f"--model {arguments.model} gives {output}: {what} is for metres")


def _figures(shot: Shot, labeler: Labeler, arguments: argparse.Namespace) -> dict[str, Any]:
    estimates = _estimates(shot, labeler, arguments)
    if isinstance(shot, Film):
        values = np.stack([estimate.values for estimate in estimates])
        return film_figures(shot, aligned_shot_m(shot, values, arguments.alignment))
    return footage_figures(shot, np.stack([estimate.masked() for estimate in estimates]))


def _estimates(shot: Shot, labeler: Labeler, arguments: argparse.Namespace) -> list[Estimate]:
    """What the model gives for the frames of a shot, with a steady scale if that is asked for."""
    try:
        estimates = labeler.estimate_shot(shot.rgbs)
    except ValueError as error:
        raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error
    if any(np.isnan(estimate.values).any() for estimate in estimates):
        raise UsageError(f"--model {arguments.model}: gives nan for {shot.name}")
    if not arguments.fuse_scale:
        return estimates
    steps = [scale_step(one, other) for one, other in pairwise(estimate.masked() for estimate in estimates)]
    factors = steady_factors(steps, arguments.fuse_scale)
    return [replace(one, values=one.values * factor) for one, factor in zip(estimates, factors, strict=True)]
