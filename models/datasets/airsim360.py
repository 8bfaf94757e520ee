"""AirSim360, which DAP's labelled outdoor set and DAP-Test are rendered with: PNG and ray distance as .npy in metres.

    raw_data_*/…panorama/panorama_N.png        raw_data_*/…/erp_distance_N.npy

The depth of an image lies in its own folder, or else in one beside it, that of the likest name if there are several.
"""

from __future__ import annotations

from os.path import commonprefix
from pathlib import Path, PurePosixPath

from .base import FileSet
from .files import read_npy_m, read_rgb


def _depth_of(root: Path, image: PurePosixPath) -> str:
    name = f"erp_distance_{image.stem.removeprefix('panorama_')}.npy"
    own = root / image.parent / name
    beside = [] if own.is_file() else sorted(own.parent.parent.glob(f"*/{name}"))
    nearest = max(beside, key=lambda path: _alike(path.parent.name, own.parent.name), default=own)
    return nearest.relative_to(root).as_posix()


def _alike(name: str, other: str) -> int:
    """How many letters two names begin with alike."""
    return len(commonprefix([name, other]))  # noqa: RUF071 - letters, not parts of a path


AIRSIM360 = FileSet(
    name="airsim360",
    scene="outdoor",
    pattern="raw_data_*/**/*panorama/panorama_*.png",
    depth_of=_depth_of,
    read_rgb=read_rgb,
    read_depth_m=read_npy_m,
    sees_far=True,
)
