"""Spherical metadata written into MP4 files, by hand: no encoder here writes it."""

import struct
from pathlib import Path

STEREO_MODES = {"mono": 0, "top_bottom": 1, "side_by_side": 2, "custom": 3, "right_left": 4}
UUID_V1 = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
XML_V1 = """<?xml version="1.0"?><rdf:SphericalVideo
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">
<GSpherical:Spherical>true</GSpherical:Spherical><GSpherical:Stitched>true</GSpherical:Stitched>
<GSpherical:StitchingSoftware>by hand</GSpherical:StitchingSoftware>
<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>{more}</rdf:SphericalVideo>"""


def box(name: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I", 8 + len(data)) + name + data


def full_box(name: bytes, *contents: bytes) -> bytes:
    return box(name, bytes(4), *contents)


def equi(top: float = 0, bottom: float = 0, left: float = 0, right: float = 0) -> bytes:
    return full_box(b"equi", struct.pack(">4I", *(int(share * 2**32) for share in (top, bottom, left, right))))


def sv3d(projection: bytes) -> bytes:
    head = full_box(b"prhd", struct.pack(">3i", 0, 0, 0))
    return box(b"sv3d", full_box(b"svhd", b"by hand\0"), box(b"proj", head, projection))


def st3d(stereo: str) -> bytes:
    return full_box(b"st3d", bytes([STEREO_MODES[stereo]]))


def xml_v1(**tags: object) -> bytes:
    more = "".join(f"<GSpherical:{name}>{value}</GSpherical:{name}>" for name, value in tags.items())
    return box(b"uuid", UUID_V1, XML_V1.format(more=more).encode())


def declare(path: Path, *boxes: bytes, inside: bytes = b"stsd") -> Path:
    """Appends boxes to the sample entry of the last track (or to the track, inside=b"trak") of an MP4 whose index is
    at its end."""
    data = bytearray(path.read_bytes())
    names = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"]
    starts = [data.rindex(name) - 4 for name in names[: names.index(inside) + 1]]
    if inside == b"stsd":
        starts.append(starts[-1] + 16)  # its one sample entry
    end = starts[-1] + int.from_bytes(data[starts[-1] : starts[-1] + 4])
    for start in starts:
        size = int.from_bytes(data[start : start + 4]) + len(b"".join(boxes))
        data[start : start + 4] = struct.pack(">I", size)
    data[end:end] = b"".join(boxes)
    path.write_bytes(data)
    return path
