"""Structured3D (Zheng et al., arXiv 1908.00222): rendered rooms, depth as 16-bit PNG in millimetres.

    scene_X/2D_rendering/R/panorama/full/rgb_rawlight.png        …/depth.png

Splits are its own: scenes up to 2999 are `train`, up to 3249 `val`, the others `test`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from .base import FileSet
from .files import read_png_m, read_rgb


def _depth_of(_: Path, image: PurePosixPath) -> str:
    return str(image.with_name("depth.png"))


def _split_of(image: PurePosixPath) -> str:
    number = image.parts[0].removeprefix("scene_")
    if not number.isdecimal():
        return ""
    return "train" if int(number) < 3000 else "val" if int(number) < 3250 else "test"


STRUCTURED3D = FileSet(
    name="structured3d",
    scene="indoor",
    pattern="scene_*/2D_rendering/*/panorama/full/rgb_rawlight.png",
    depth_of=_depth_of,
    read_rgb=read_rgb,
    read_depth_m=partial(read_png_m, units_per_metre=1000),
    splits=("train", "val", "test"),
    split_of=_split_of,
)
