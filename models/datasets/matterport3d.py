"""Matterport3D (Chang et al., arXiv 1709.06158) in two forms: rendered by 3D60, and stitched from its skyboxes.

3D60       SCENE/N_spherical_1_emission_center_0.png    SCENE/N_spherical_1_depth_center_0.exr    metres
skybox     SCENE/pano_skybox_color/ID.jpg               SCENE/pano_depth/ID.png                   1/4000 m
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from .base import FileSet
from .files import read_exr_m, read_png_m, read_rgb


def _rendered_depth(_: Path, image: PurePosixPath) -> str:
    return str(image.with_name(image.name.replace("_emission_", "_depth_")).with_suffix(".exr"))


def _skybox_depth(_: Path, image: PurePosixPath) -> str:
    return str(image.parent.parent / "pano_depth" / f"{image.stem}.png")


MATTERPORT3D = FileSet(
    name="matterport3d",
    scene="indoor",
    pattern="*/*_spherical_1_emission_center_0.png",
    depth_of=_rendered_depth,
    read_rgb=read_rgb,
    read_depth_m=read_exr_m,
)
MATTERPORT3D_SKYBOX = FileSet(
    name="matterport3d-skybox",
    scene="indoor",
    pattern="*/pano_skybox_color/*.jpg",
    depth_of=_skybox_depth,
    read_rgb=read_rgb,
    read_depth_m=partial(read_png_m, units_per_metre=4000),
)
