"""`dap simulate`: labelled panoramas and 360° videos into a run directory of their own; the same command resumes."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from ..begin import add_take_over_argument
from ..errors import UsageError
from ..job import job_from_text
from .run import run_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", required=True, metavar="DIR", help="run directory to fill: labelled-<look>/, footage/")
    parser.add_argument("--panoramas", type=int, default=0, metavar="N", help="labelled panoramas")
    parser.add_argument("--videos", type=int, default=0, metavar="N", help="360° videos with the truth of every frame")
    parser.add_argument("--look", choices=("synthetic", "field"), default="synthetic")
    parser.add_argument("--height", type=int, default=512, help="pixels; the width is twice that")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a video")
    parser.add_argument("--fps", type=float, default=10.0, help="frames per second of a video")
    parser.add_argument("--mesh", metavar="FILE", help="render this GLB, OBJ or PLY instead of procedural scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executor", choices=("ray", "in-process"), default="ray")
    add_take_over_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Builds the recipe that the arguments describe, and runs it."""
    steps: dict[str, Any] = {}
    common = {"look": arguments.look, "height": arguments.height, "seed": arguments.seed}
    if arguments.panoramas:
        count: dict[str, Any] = {"panoramas": arguments.panoramas, "mesh": arguments.mesh}
        if arguments.mesh:
            count |= {"validation_share": 0.0, "test_share": 0.0}  # one scene: all its views are in one split
        steps["panoramas"] = {"step": "simulate", "source_name": arguments.look, **count, **common}
    if arguments.videos and arguments.mesh:
        raise UsageError("--mesh gives panoramas, not videos")
    if arguments.videos:
        length = {"videos": arguments.videos, "seconds": arguments.seconds, "fps": arguments.fps}
        steps["videos"] = {"step": "film", **length, **common}
    if not steps:
        raise UsageError("nothing to make: give --panoramas N, --videos N, or both")
    document = {"name": "simulate", "executor": arguments.executor, "steps": steps}
    return run_job(job_from_text(yaml.safe_dump(document), arguments.out), arguments.take_over)
