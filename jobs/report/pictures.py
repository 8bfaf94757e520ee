"""Pictures of a report: one sheet of thumbnails a video, single pictures, and scenes for the 360° viewer."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg

from ...models.data.depth_png import decode_depth_m, decode_units, encode_units
from ...models.data.images import resize_rgb
from ...models.drawing.depth import colour_depth

THUMB_HEIGHT, THUMB_WIDTH = 72, 144
PICTURE_HEIGHT = 128
SCENE_HEIGHT, MAP_HEIGHT = 384, 192
_ACROSS = 8


@dataclass(frozen=True)
class Thumb:
    """A place on a sheet of thumbnails, in pixels from its top left."""

    sheet: str
    x: int
    y: int


def small_rgb(jpg: bytes, height: int) -> np.ndarray:
    """A JPEG as uint8 RGB (height, 2 * height, 3); decoded no larger than need be."""
    rgb = simplejpeg.decode_jpeg(jpg, "RGB", min_height=height, min_width=2 * height)
    return resize_rgb(rgb, height, 2 * height)


def sheet(path: str, rgbs: Sequence[np.ndarray]) -> tuple[bytes, list[Thumb]]:
    """Thumbnails (THUMB_HEIGHT, THUMB_WIDTH, 3) as one JPEG, and where each lies in it."""
    rows = math.ceil(len(rgbs) / _ACROSS)
    whole = np.zeros((rows * THUMB_HEIGHT, min(len(rgbs), _ACROSS) * THUMB_WIDTH, 3), np.uint8)
    thumbs = []
    for number, rgb in enumerate(rgbs):
        y, x = number // _ACROSS * THUMB_HEIGHT, number % _ACROSS * THUMB_WIDTH
        whole[y : y + THUMB_HEIGHT, x : x + THUMB_WIDTH] = rgb
        thumbs.append(Thumb(path, x, y))
    return jpeg(whole, 60), thumbs


def jpeg(rgb: np.ndarray, quality: int = 82) -> bytes:
    """uint8 RGB (H, W, 3) as a JPEG."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=quality, colorspace="RGB", colorsubsampling="420")


def depth_jpeg(png: bytes) -> bytes:
    """A depth PNG in colours, PICTURE_HEIGHT rows at most."""
    colours = colour_depth(_fewer_rows(decode_depth_m(png), PICTURE_HEIGHT))
    return jpeg(colours, 88)


def scene_document(
    title: str,
    rgb: np.ndarray,
    maps: Mapping[str, bytes],
    facts: Sequence[Sequence[str]] = (),
    *,
    picture_height: int = SCENE_HEIGHT,
    map_height: int = MAP_HEIGHT,
) -> dict[str, Any]:
    """What the viewer shows: a picture, uint8 RGB (H, W, 3), and depth PNGs by name, as data URIs.

    Pictures are made smaller, to `picture_height` rows; of maps every n-th value is kept, so that each is one of the
    file. `facts` are rows of a table below: a name, a text, and in a report a link.
    """
    height = min(picture_height, len(rgb))
    picture = jpeg(resize_rgb(rgb, height, 2 * height))
    small = {name: encode_units(_fewer_rows(decode_units(png), map_height)) for name, png in maps.items()}
    return {
        "title": title,
        "picture": _data_uri("image/jpeg", picture),
        "maps": {name: _data_uri("image/png", png) for name, png in small.items()},
        "facts": [list(fact) for fact in facts],
    }


def script_of(name: str, document: Any) -> str:
    """A call of a function with a document, for a classic script; nothing in it can end the script."""
    text = json.dumps(document).replace("</", "<\\/")
    return f"{name}({text});\n"


def _fewer_rows(values: np.ndarray, most: int) -> np.ndarray:
    """Every n-th row and column of (H, W), from the middle of each step, so that about `most` rows are left."""
    step = max(1, round(len(values) / most))
    return np.ascontiguousarray(values[step // 2 :: step, step // 2 :: step])


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_jpeg(rgb: np.ndarray) -> bytes:
    """uint8 RGB (H, W, 3) of any shape as a JPEG of PICTURE_HEIGHT rows."""
    height, width = rgb.shape[:2]
    size = (max(1, round(width * PICTURE_HEIGHT / height)), PICTURE_HEIGHT)
    return jpeg(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
