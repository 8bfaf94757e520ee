"""What a file declares about its projection and its eyes.

Google's Spherical Video metadata, version 2 (boxes `st3d` and `sv3d`, Matroska's Projection and StereoMode) and
version 1 (XML in a `uuid` box or a tag): https://github.com/google/spatial-media/tree/master/docs
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from .media_boxes import Part, content, descend, ebml_elements, iso_boxes

Projection = Literal["rectilinear", "equirectangular", "cubemap", "mesh", "unknown"]
Stereo = Literal["mono", "top_bottom", "side_by_side", "other"]
Bounds = tuple[float, float, float, float]

NEGLIGIBLE = 0.01  # share of the sphere that may be cut off at a side of a full panorama
WHOLE: Bounds = (0.0, 0.0, 0.0, 0.0)
MAX_XML_BYTES = 1 << 16

EBML_MAGIC = b"\x1a\x45\xdf\xa3"
UUID_V1 = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
SAMPLE_TABLE = (b"mdia", b"minf", b"stbl", b"stsd")
SAMPLE_ENTRY_BYTES = 78  # fixed fields of a visual sample entry, before its boxes
SEGMENT, TRACKS, TRACK, VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
PROJECTION, PROJECTION_TYPE, PROJECTION_PRIVATE = b"\x76\x70", b"\x76\x71", b"\x76\x72"
STEREO_MODE, TAGS = b"\x53\xb8", (b"\x12\x54\xc3\x67", b"\x73\x73", b"\x67\xc8", b"\x44\x87")

BOX_PROJECTIONS: dict[bytes, Projection] = {
    b"equi": "equirectangular",
    b"cbmp": "cubemap",
    b"ytmp": "cubemap",  # equi-angular
    b"mshp": "mesh",
}
MATROSKA_PROJECTIONS: tuple[Projection, ...] = ("rectilinear", "equirectangular", "cubemap", "mesh")
XML_STEREO: dict[str, Stereo] = {"mono": "mono", "top-bottom": "top_bottom", "left-right": "side_by_side"}
BOX_STEREO: dict[int, tuple[Stereo, bool]] = {
    0: ("mono", True),
    1: ("top_bottom", True),
    2: ("side_by_side", True),
    4: ("side_by_side", False),
}
MATROSKA_STEREO: dict[int, tuple[Stereo, bool]] = {
    0: ("mono", True),
    1: ("side_by_side", True),
    2: ("top_bottom", False),
    3: ("top_bottom", True),
    11: ("side_by_side", False),
}


@dataclass(frozen=True)
class Declared:
    """`bounds` are the shares of the full sphere cut off at top, bottom, left and right (VR180: 0, 0, 1/4, 1/4)."""

    projection: Projection
    stereo: Stereo = "mono"
    left_first: bool = True  # the left eye is in the top or left half
    bounds: Bounds = WHOLE

    @property
    def covers_sphere(self) -> bool:
        return self.projection == "equirectangular" and max(self.bounds) < NEGLIGIBLE


def declared_projection(path: str) -> Declared | None:
    """Reads headers alone, of an MP4, QuickTime or Matroska file; None where it says nothing that can be understood."""
    with open(path, "rb") as file:
        whole = (b"", 0, os.fstat(file.fileno()).st_size)
        found = _matroska(file, whole) if file.read(4) == EBML_MAGIC else _mp4(file, whole)
        return next((declared for declared in found if declared != Declared("unknown")), None)


def declared_in_xmp(packet: bytes) -> Declared | None:
    """What a picture's XMP declares: Google's photo sphere tags (GPano), written as attributes or as elements."""
    text = packet.decode("utf-8", "replace")
    tags = dict(re.findall(r"""GPano:(\w+)\s*=\s*["']\s*([^"']*?)\s*["']""", text))
    tags |= dict(re.findall(r"<GPano:(\w+)>\s*([^<]*?)\s*</GPano:", text))
    return Declared("equirectangular", bounds=_crop(tags)) if tags.get("ProjectionType") == "equirectangular" else None


def _mp4(file: BinaryIO, whole: Part) -> Iterator[Declared]:
    """Of each track: its boxes, then its XML."""
    for track in descend(iso_boxes, file, whole, (b"moov", b"trak")):
        for _, start, end in descend(iso_boxes, file, track, SAMPLE_TABLE):
            for _, entry, entry_end in iso_boxes(file, start + 8, end):
                yield _sample_entry(file, (b"", entry + SAMPLE_ENTRY_BYTES, entry_end))
        for box in descend(iso_boxes, file, track, (b"uuid",)):
            data = content(file, box, MAX_XML_BYTES)
            if data.startswith(UUID_V1):
                yield _from_xml(data)


def _sample_entry(file: BinaryIO, entry: Part) -> Declared:
    declared = Declared("unknown")
    for box in descend(iso_boxes, file, entry, (b"sv3d", b"proj")):
        for child in iso_boxes(file, *box[1:]):
            if projection := BOX_PROJECTIONS.get(child[0]):
                declared = Declared(projection, bounds=_bounds(content(file, child, 20), projection))
    for box in descend(iso_boxes, file, entry, (b"st3d",)):
        stereo, left_first = BOX_STEREO.get(int.from_bytes(content(file, box, 5)[4:]), ("other", True))
        declared = replace(declared, stereo=stereo, left_first=left_first)
    return declared


def _matroska(file: BinaryIO, whole: Part) -> Iterator[Declared]:
    for video in descend(ebml_elements, file, whole, (SEGMENT, TRACKS, TRACK, VIDEO)):
        yield _video_element(file, video)
    for text in descend(ebml_elements, file, whole, (SEGMENT, *TAGS)):
        yield _from_xml(content(file, text, MAX_XML_BYTES))


def _video_element(file: BinaryIO, video: Part) -> Declared:
    declared = Declared("unknown")
    for element in descend(ebml_elements, file, video, (PROJECTION,)):
        fields = {name: content(file, (name, start, end), 20) for name, start, end in ebml_elements(file, *element[1:])}
        kind = int.from_bytes(fields.get(PROJECTION_TYPE, b""))
        if kind < len(MATROSKA_PROJECTIONS):
            projection = MATROSKA_PROJECTIONS[kind]
            declared = Declared(projection, bounds=_bounds(fields.get(PROJECTION_PRIVATE, b""), projection))
    for element in descend(ebml_elements, file, video, (STEREO_MODE,)):
        stereo, left_first = MATROSKA_STEREO.get(int.from_bytes(content(file, element, 8)), ("other", True))
        declared = replace(declared, stereo=stereo, left_first=left_first)
    return declared


def _bounds(equi: bytes, projection: Projection) -> Bounds:
    """Top, bottom, left and right of an `equi` box, after version and flags, in units of 2^-32."""
    if projection != "equirectangular" or len(equi) < 20:
        return WHOLE
    top, bottom, left, right = (int.from_bytes(equi[at : at + 4]) / 2**32 for at in (4, 8, 12, 16))
    return top, bottom, left, right


def _from_xml(data: bytes) -> Declared:
    """Looked through, not parsed: much of it is not well formed, and nothing in it is to be expanded."""
    tags = dict(re.findall(r"<GSpherical:(\w+)>\s*([^<]*?)\s*</GSpherical:", data.decode("utf-8", "replace")))
    if tags.get("ProjectionType") != "equirectangular":
        return Declared("unknown")
    return Declared("equirectangular", XML_STEREO.get(tags.get("StereoMode", "mono"), "other"), True, _crop(tags))


def _crop(tags: dict[str, str]) -> Bounds:
    names = [f"{name}Pixels" for name in ("CroppedAreaLeft", "CroppedAreaTop", "CroppedAreaImageWidth")]
    names += [f"{name}Pixels" for name in ("CroppedAreaImageHeight", "FullPanoWidth", "FullPanoHeight")]
    if not all(re.fullmatch(r"\d{1,9}", tags.get(name, "")) for name in names):
        return WHOLE
    left, top, width, height, full_width, full_height = (int(tags[name]) for name in names)
    if not (left + width <= full_width and top + height <= full_height and full_width and full_height):
        return WHOLE
    right, bottom = full_width - left - width, full_height - top - height
    return top / full_height, bottom / full_height, left / full_width, right / full_width
