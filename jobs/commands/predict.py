"""`dap predict`: depth of panoramas as maps, pictures, point clouds, meshes, pages to look around in, and videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ...models.drawing.depth import depth_picture
from ...models.inference.embedded import EMBEDDED
from ...models.inference.precision import Precision
from ...models.labelers.patches import Patches
from ...models.video.h264 import write_mp4
from ..errors import EXIT_DONE, EXIT_FAILED, UsageError
from ..output import output_folder, unfinished_file, write_file
from ..tables import people_console
from .parts.depth_files import FORMATS, depth_files
from .parts.loose_files import (
    Picture,
    UnreadableError,
    check_device,
    check_distinct_names,
    check_files,
    check_sampling,
    expected_pictures,
    files_in,
    is_picture,
    read_pictures,
)
from .parts.metric_labeler import MetricLabeler

_EVERY_S = 2.0
_EVERY_FRAME_S = 1e-6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="equirectangular images, videos, or folders of them")
    parser.add_argument(
        "--model",
        default=EMBEDDED,
        metavar="PATH|hf:ID|unik3d:ID|…|python:MODULE:FUNCTION",
        help="a model folder of ours, or a model of others that gives metres (default: the embedded one)",
    )
    parser.add_argument("--out", required=True, metavar="DIR")
    outputs = parser.add_argument_group("what is written")
    outputs.add_argument(
        "--format",
        choices=FORMATS,
        default="png",
        help="of the depth maps: 16 bits in 1/512 m (png), or 32-bit metres",
    )
    outputs.add_argument("--beside", action="store_true", help="colours come with the panorama above them")
    outputs.add_argument("--ply", action="store_true", help="write NAME.ply, too: coloured points")
    outputs.add_argument("--glb", action="store_true", help="write NAME.glb, too: coloured points")
    outputs.add_argument(
        "--mesh", action="store_true", help="--ply and --glb hold a mesh, cut at depth edges, in place of points"
    )
    outputs.add_argument("--viewer", action="store_true", help="write NAME.html, too: one file, to look around in")
    outputs.add_argument(
        "--video", action="store_true", help="of a video: NAME.depth.mp4, its colours, in place of files by frame"
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="of a video: time between frames (default: 2; with --video, every frame)",
    )
    parser.add_argument("--height", type=int, default=512, help="of a video: height of the frames")
    parser.add_argument(
        "--input-height",
        type=int,
        metavar="PIXELS",
        help="of what our model sees, a multiple of its patch (default: its own; what is written has the input's size)",
    )
    parser.add_argument(
        "--nearer-mask",
        action="store_true",
        help="no depth where the model's range mask says: beyond its 10, 20 or 50 m (one of 100 m always applies)",
    )
    parser.add_argument(
        "--yaw-turns", type=int, default=1, metavar="N", help="mean over N predictions, each turned on by 360°/N"
    )
    parser.add_argument("--patches", type=int, metavar="SIZE", help="a model of others sees 12 views of SIZE pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="auto: bfloat16 on CUDA")


def main(arguments: argparse.Namespace) -> int:
    """Writes what is wanted of every panorama; a file that cannot be read is a line, and the others go on."""
    files = files_in(arguments.files)
    usual_s = _EVERY_FRAME_S if arguments.video else _EVERY_S
    every_s = usual_s if arguments.every is None else arguments.every
    check_files(files)
    check_distinct_names(files)
    check_sampling(every_s, arguments.height)
    check_device(arguments.device)
    if arguments.yaw_turns < 1:
        raise UsageError(f"--yaw-turns must be at least 1, not {arguments.yaw_turns}")
    if arguments.mesh and not (arguments.ply or arguments.glb):
        raise UsageError("--mesh is for --ply and --glb")
    out = output_folder(arguments.out)
    if out.resolve() in {Path(path).resolve() for path in arguments.files}:
        raise UsageError(f"--out {out}: is a folder to read from")
    labeler = MetricLabeler(
        arguments.model,
        device=arguments.device,
        patches=_patches(arguments.patches),
        yaw_turns=arguments.yaw_turns,
        precision=arguments.precision,
        height=arguments.input_height,
    )
    expected = [expected_pictures(file, every_s) for file in files]
    unread = []
    with _progress() as progress:
        task = progress.add_task("panoramas", total=sum(expected))
        for number, file in enumerate(files):
            try:
                found = _predict(labeler, file, every_s, arguments, progress)
                if arguments.video and not is_picture(file):
                    video = out / f"{Path(file).stem}.depth.mp4"
                    _write_video(video, found, beside=arguments.beside)
                    progress.console.print(f"{Path(file).stem}: {video}")
                else:
                    for picture, depth_m in found:
                        _write(out, picture, depth_m, arguments, progress)
            except UnreadableError as error:
                unread.append(str(error))
            progress.update(task, completed=sum(expected[: number + 1]))
    if len(unread) == len(files):
        raise UsageError("; ".join(unread))
    for line in unread:
        print(f"dap predict: {line}", file=sys.stderr)
    return EXIT_FAILED if unread else EXIT_DONE


def _patches(size: int | None) -> Patches | None:
    try:
        return None if size is None else Patches(size)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = people_console(stderr=True)
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def _predict(
    labeler: MetricLabeler, file: str, every_s: float, arguments: argparse.Namespace, progress: Progress
) -> Iterator[tuple[Picture, np.ndarray]]:
    """The pictures of a file and their distances (H, W) in metres."""
    for number, picture in enumerate(read_pictures(file, every_s, arguments.height)):
        height, width = picture.rgb.shape[:2]
        if not number and abs(width / height - 2) > 0.02:
            progress.console.print(f"warning: {file} is {width}×{height}, not 2:1: is it a whole panorama?")
        yield picture, labeler.depth_m(picture.rgb, nearer=arguments.nearer_mask)
        progress.advance(progress.task_ids[0])


def _write(out: Path, picture: Picture, depth_m: np.ndarray, arguments: argparse.Namespace, progress: Progress) -> None:
    for suffix, data in depth_files(picture, depth_m, arguments):
        write_file(out / f"{picture.name}.{suffix}", data)
    known_m = depth_m[np.isfinite(depth_m)]
    median = f"median {np.median(known_m):.2f} m" if known_m.size else "all beyond the range"
    progress.console.print(f"{picture.name}: {median} -> {out / picture.name}.colour.png")


def _write_video(path: Path, found: Iterator[tuple[Picture, np.ndarray]], *, beside: bool) -> None:
    """The colours of a video's frames, each at its time after the first."""

    def timed() -> Iterator[tuple[float, np.ndarray]]:
        first_s = None
        for picture, depth_m in found:
            assert picture.timestamp_s is not None, "it is a frame"
            first_s = picture.timestamp_s if first_s is None else first_s
            yield picture.timestamp_s - first_s, depth_picture(depth_m, picture.rgb if beside else None)

    with unfinished_file(path) as file:
        write_mp4(file.name, timed())
