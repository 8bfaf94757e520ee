"""Stanford2D3D-S (Armeni et al., arXiv 1702.01105): 16-bit PNG in 1/512 m, 65535 = missing.

The scanner saw neither pole: images have black bands there, whose depth is void whatever it says. Splits are those of
the usual first fold: area 5 is `test`, all others are `train`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from .base import FileSet
from .files import read_png_m, read_rgb

_BLACK = 4  # of 255: bands that were resized or recompressed are not quite black


def _depth_of(_: Path, image: PurePosixPath) -> str:
    folder = image.parent.parent / "depth"
    return str(folder / image.name.replace("_domain_rgb.png", "_domain_depth.png"))


def outside_black_bands(rgb: np.ndarray) -> np.ndarray:
    """False in the rows (H, W) of an image (H, W, 3) that are black from a pole on."""
    bright = np.flatnonzero((rgb > _BLACK).any(axis=(1, 2)))
    between = np.zeros(rgb.shape[:2], bool)
    if bright.size:
        between[bright[0] : bright[-1] + 1] = True
    return between


def _split_of(image: PurePosixPath) -> str:
    return "test" if image.parts[0].startswith("area_5") else "train"


STANFORD2D3D = FileSet(
    name="stanford2d3d",
    scene="indoor",
    pattern="area_*/pano/rgb/*_domain_rgb.png",
    depth_of=_depth_of,
    read_rgb=read_rgb,
    read_depth_m=partial(read_png_m, units_per_metre=512),
    has_truth=outside_black_bands,
    splits=("train", "test"),
    split_of=_split_of,
)
