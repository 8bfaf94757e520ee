"""Deep360 (Li et al., arXiv 2112.13249): outdoor stereo in the Cassini projection, turned to panoramas here.

    epN_500frames/SPLIT/rgb/K_12_rgb1.png        epN_500frames/SPLIT/depth/K_depth.npz (arr_0, metres)

Splits are its folders: training, validation, testing.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ..geometry.cassini import cassini_to_erp
from .base import DatasetError, FileSet
from .files import read_npz_m, read_rgb


def _depth_of(_: Path, image: PurePosixPath) -> str:
    return str(image.parent.parent / "depth" / image.name.replace("_12_rgb1.png", "_depth.npz"))


def _rgb(path: Path) -> np.ndarray:
    turned = _turned(path, read_rgb(path).transpose(2, 0, 1).astype(np.float32), "bilinear")
    return np.rint(turned).astype(np.uint8).transpose(1, 2, 0)


def _depth_m(path: Path) -> np.ndarray:
    return _turned(path, read_npz_m(path)[None], "nearest")[0]


def _turned(path: Path, cassini_chw: np.ndarray, mode: str) -> np.ndarray:
    height, width = cassini_chw.shape[1:]
    if height != 2 * width:
        raise DatasetError(path, f"is {width}×{height}: a Cassini image is twice as high as wide", "bad_shape")
    return cassini_to_erp(torch.from_numpy(np.ascontiguousarray(cassini_chw))[None], mode=mode)[0].numpy()


DEEP360 = FileSet(
    name="deep360",
    scene="outdoor",
    pattern="ep*_500frames/*/rgb/*_12_rgb1.png",
    depth_of=_depth_of,
    read_rgb=_rgb,
    read_depth_m=_depth_m,
    sees_far=True,
    splits=("training", "validation", "testing"),
    split_of=lambda image: image.parts[1] if len(image.parts) > 2 else "",
)
