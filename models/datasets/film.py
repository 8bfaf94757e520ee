"""Simulated footage with the truth beside it, as the step `film` and `dap simulate` write it.

NAME.mp4         one shot
NAME.json        poses: of every frame position_m, yaw_deg, roll_deg, pitch_deg
NAME.truth.tar   NNNNNN.depth.png: the true distances of every frame
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.depth_png import decode_depth_m
from ..geometry.equirectangular import rotation_matrix
from ..support.files import FileError
from .base import DatasetError
from .footage import Shot, read_frames

_EVERY_FRAME_S = 1e-6


@dataclass(frozen=True)
class Film(Shot):
    """One shot, its true distances (N, H, W), and how the camera stood.

    `depths_m` is inf in the sky; `positions_m` (N, 3); `rotations` (N, 3, 3), from the camera to the world.
    """

    depths_m: np.ndarray
    positions_m: np.ndarray
    rotations: np.ndarray


def find_films(root: Path) -> list[Path]:
    """The videos below a folder that have their truth beside them; raises DatasetError if there is none."""
    if not root.is_dir():
        raise DatasetError(root, "no such folder")
    found = [path for path in sorted(root.rglob("*.mp4")) if path.with_suffix(".truth.tar").is_file()]
    if not found:
        raise DatasetError(root, "holds no film: expected NAME.mp4 with NAME.truth.tar and NAME.json beside it")
    return found


def read_film(path: Path) -> Film:
    """Reads one; raises DatasetError if a file of it is missing, damaged, or not of as many frames as the others."""
    depths_m = _truth(path.with_suffix(".truth.tar"))
    positions_m, rotations = _poses(path.with_suffix(".json"))
    try:
        rgbs = read_frames(str(path), _EVERY_FRAME_S, depths_m.shape[1])
    except FileError as error:
        raise DatasetError(path, f"{error.code}: {error.detail}", error.code) from error
    if not len(rgbs) == len(depths_m) == len(positions_m):
        raise DatasetError(path, f"{len(rgbs)} frames, but {len(depths_m)} truths and {len(positions_m)} poses")
    return Film(path.stem, rgbs, depths_m, positions_m, rotations)


def _truth(path: Path) -> np.ndarray:
    try:
        with tarfile.open(path, "r:") as tar:
            members = sorted((one for one in tar if one.name.endswith(".depth.png")), key=lambda one: one.name)
            return np.stack([decode_depth_m(file.read()) for one in members if (file := tar.extractfile(one))])
    except (OSError, ValueError, tarfile.TarError) as error:
        raise DatasetError(path, f"is no truth of a film: {' '.join(str(error).split())}", "bad_depth") from error


def _poses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and rotations (N, 3, 3)."""
    try:
        poses = json.loads(path.read_bytes())["poses"]
        angles = [{name: float(pose[name]) for name in ("yaw_deg", "pitch_deg", "roll_deg")} for pose in poses]
        positions_m = np.array([pose["position_m"] for pose in poses], float).reshape(-1, 3)
        return positions_m, np.stack([rotation_matrix(**of).numpy() for of in angles])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(path, f"holds no poses: {' '.join(str(error).split())}", "bad_camera") from error
