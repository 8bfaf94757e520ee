"""`dap predict`: depth of panoramas, as a depth PNG, a picture in colour and, if asked for, a point cloud."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import trimesh

from ...models.data.depth_png import encode_depth_png
from ...models.drawing.depth import colour_depth
from ...models.drawing.png import encode_png
from ...models.geometry.equirectangular import point_map
from ...models.inference.embedded import EMBEDDED, resolve_model
from ...models.inference.precision import Precision
from ...models.inference.predictor import DepthPredictor
from ..errors import EXIT_DONE, EXIT_FAILED, UsageError
from ..output import output_folder, write_file
from ..report.pictures import scene_document
from ..report.site import viewer_page
from .parts.loose_files import (
    Picture,
    UnreadableError,
    check_device,
    check_distinct_names,
    check_files,
    check_sampling,
    read_pictures,
)

_VIEWER_HEIGHT = 1024  # rows, of the picture and of the map


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="equirectangular images or videos")
    parser.add_argument("--model", default=EMBEDDED, metavar="PATH", help="a model folder (default: the embedded one)")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--input-height",
        type=int,
        metavar="PIXELS",
        help="of what the model sees, a multiple of its patch (default: its own; what is written has the input's size)",
    )
    parser.add_argument(
        "--nearer-mask",
        action="store_true",
        help="no depth where the model's range mask says: beyond its 10, 20 or 50 m (one of 100 m always applies)",
    )
    parser.add_argument("--ply", action="store_true", help="write a point cloud, too")
    parser.add_argument("--viewer", action="store_true", help="write NAME.html, too: one file, to look around in")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="of a video: time between frames")
    parser.add_argument("--height", type=int, default=512, help="of a video: height of the frames")
    parser.add_argument(
        "--yaw-turns", type=int, default=1, metavar="N", help="mean over N predictions, each turned on by 360°/N"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="auto: bfloat16 on CUDA")


def main(arguments: argparse.Namespace) -> int:
    """Writes NAME.depth.png, NAME.colour.png and maybe NAME.ply and NAME.html for every panorama."""
    check_files(arguments.files)
    check_distinct_names(arguments.files)
    check_sampling(arguments.every, arguments.height)
    check_device(arguments.device)
    if arguments.yaw_turns < 1:
        raise UsageError(f"--yaw-turns must be at least 1, not {arguments.yaw_turns}")
    out = output_folder(arguments.out)
    try:
        predictor = DepthPredictor(
            resolve_model(arguments.model),
            arguments.device,
            yaw_turns=arguments.yaw_turns,
            precision=arguments.precision,
            height=arguments.input_height,
        )
    except (ValueError, OSError) as error:
        raise UsageError(f"--model {arguments.model}: {' '.join(str(error).split())}") from error
    unread = []
    for file in arguments.files:
        try:
            for picture in read_pictures(file, arguments.every, arguments.height):
                _warn_if_no_panorama(picture)
                depth_m = predictor.predict([picture.rgb])[0].masked_depth_m(nearer=arguments.nearer_mask)
                _write(out, picture, depth_m, ply=arguments.ply, viewer=arguments.viewer)
        except UnreadableError as error:  # the others are done
            unread.append(str(error))
    if len(unread) == len(arguments.files):
        raise UsageError("; ".join(unread))
    for line in unread:
        print(f"dap predict: {line}", file=sys.stderr)
    return EXIT_FAILED if unread else EXIT_DONE


def _write(out: Path, picture: Picture, depth_m: np.ndarray, *, ply: bool, viewer: bool) -> None:
    png = encode_depth_png(depth_m)
    write_file(out / f"{picture.name}.depth.png", png)
    write_file(out / f"{picture.name}.colour.png", encode_png(colour_depth(depth_m)))
    if ply:
        cloud = point_cloud(picture.rgb, depth_m).export(file_type="ply")
        assert isinstance(cloud, bytes)
        write_file(out / f"{picture.name}.ply", cloud)
    if viewer:
        height = _VIEWER_HEIGHT
        scene = scene_document(picture.name, picture.rgb, {"depth": png}, picture_height=height, map_height=height)
        write_file(out / f"{picture.name}.html", viewer_page(picture.name, [scene]))
    known_m = depth_m[np.isfinite(depth_m)]
    median = f"median {np.median(known_m):.2f} m" if known_m.size else "all beyond the range"
    print(f"{picture.name}: {median} -> {out / picture.name}.colour.png", file=sys.stderr)


def point_cloud(rgb: np.ndarray, depth_m: np.ndarray) -> trimesh.PointCloud:
    """Coloured points (x forward, y left, z up, metres) of a panorama, without what is beyond the range."""
    points_m = point_map(torch.from_numpy(np.where(np.isfinite(depth_m), depth_m, 0.0)).float()).numpy()
    known = np.isfinite(depth_m)
    return trimesh.PointCloud(points_m[known], colors=rgb[known])


def _warn_if_no_panorama(picture: Picture) -> None:
    height, width = picture.rgb.shape[:2]
    if abs(width / height - 2) > 0.02:
        print(f"warning: {picture.file} is {width}×{height}, not 2:1: is it a whole panorama?", file=sys.stderr)
