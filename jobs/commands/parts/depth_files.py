"""The files that `dap predict` makes of a panorama and its depth."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import OpenEXR

from ....models.data.depth_png import encode_depth_png
from ....models.drawing.depth import depth_picture
from ....models.drawing.png import encode_png
from ....models.geometry.surface import coloured_mesh, coloured_points
from ...report.pictures import scene_document
from ...report.site import viewer_page
from .loose_files import Picture

if TYPE_CHECKING:
    from trimesh import PointCloud, Trimesh

_VIEWER_HEIGHT = 1024  # rows, of the picture and of the map


def depth_files(picture: Picture, depth_m: np.ndarray, wanted: Namespace) -> Iterator[tuple[str, bytes]]:
    """Suffix and content of every file that is wanted; `depth_m` (H, W) is inf beyond the range, nan where missing."""
    yield f"depth.{wanted.format}", FORMATS[wanted.format](depth_m)
    yield "colour.png", encode_png(depth_picture(depth_m, picture.rgb if wanted.beside else None))
    if wanted.ply or wanted.glb:
        shape = (coloured_mesh if wanted.mesh else coloured_points)(picture.rgb, depth_m)
        if wanted.ply:
            yield "ply", _exported(shape, "ply")
        if wanted.glb:
            shape.vertices = shape.vertices[:, [1, 2, 0]]  # glTF: x left, y up, z forward
            yield "glb", _exported(shape, "glb")
    if wanted.viewer:
        maps, height = {"depth": encode_depth_png(depth_m)}, _VIEWER_HEIGHT
        scene = scene_document(picture.name, picture.rgb, maps, picture_height=height, map_height=height)
        yield "html", viewer_page(picture.name, [scene])


def _exr(depth_m: np.ndarray) -> bytes:
    """32-bit floats in one channel, Z."""
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.ZIP_COMPRESSION,
        "comments": "ray distance in metres; inf: beyond the range, nan: none",
    }
    file = io.BytesIO()
    OpenEXR.File(header, {"Z": np.ascontiguousarray(depth_m, np.float32)}).write(file)
    return file.getvalue()


def _npy(depth_m: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, depth_m.astype(np.float32, copy=False))
    return file.getvalue()


FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {"png": encode_depth_png, "exr": _exr, "npy": _npy}
"""Of depth maps: 16-bit units of 1/512 m as PNG, or 32-bit metres."""


def _exported(shape: PointCloud | Trimesh, file_type: str) -> bytes:
    data = shape.export(file_type=file_type)
    assert isinstance(data, bytes)
    return data
