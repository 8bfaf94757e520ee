"""Ray distance as a 16-bit gray PNG: units of 1/512 m, 0 = no ground truth, 65535 = beyond the range.

Maps are written with the filter "up" in every row and ISA-L's deflate at level 2: some four times as fast as OpenCV's
encoder at level 1, and as small. Any PNG reader reads them. Level 2 gives the same bytes on every x86-64 processor
(tried: Nehalem, Sandy Bridge, Haswell, AVX-512); level 3 does not. The first bytes are a block of their own: the
loop of ISA-L 2.32 hashes an address in place of a stream's third byte, so that one map in some thousands got other
bytes. What others wrote is read by OpenCV.
"""

import struct
import zlib
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError

UNITS_PER_METRE = 512
MISSING = 0
BEYOND_RANGE = 65535
MAX_RANGE_M = (BEYOND_RANGE - 1) / UNITS_PER_METRE
"""The farthest distance that the format can hold, 127.998 m."""

MAX_PIXELS = 2**28
"""A header that promises more is refused before any memory is taken for it."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER, _HEADER_BYTES = struct.Struct(">IIBBBBB"), 33  # IHDR and all before the next chunk
_DEFLATE_LEVEL = 2
_FIRST_BYTES = 8  # enough for ISA-L to begin its history, and too few for its loop
_FILTER_UP = 2
_METRES = (np.arange(2**16) / UNITS_PER_METRE).astype(np.float32)
_METRES[[MISSING, BEYOND_RANGE]] = np.nan, np.inf


class DepthMap(NamedTuple):
    """A decoded map: `depth_m` (H, W) float32 with nan where missing and inf where beyond the range, and two masks."""

    depth_m: np.ndarray
    valid: np.ndarray
    beyond_range: np.ndarray


def quantise_depth(depth_m: np.ndarray, *, range_m: float = 100.0, valid: np.ndarray | None = None) -> np.ndarray:
    """Distances (H, W) in metres to the format's uint16 units.

    inf or farther than `range_m` is beyond the range; nan, not positive or not `valid` is missing. What is nearer than
    half a unit is kept as one unit, so that a distance never turns into a missing one.
    """
    if not 0 < range_m <= MAX_RANGE_M:
        raise ValueError(f"range_m must lie in (0, {MAX_RANGE_M:.3f}], not {range_m}")
    if depth_m.ndim != 2 or (valid is not None and valid.shape != depth_m.shape):
        shapes = f"{depth_m.shape} and {None if valid is None else valid.shape}"
        raise ValueError(f"depth (H, W) and its mask must agree, not {shapes}")
    depth_m = depth_m.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # of nan and inf, which are overwritten
        scaled = depth_m * np.float32(UNITS_PER_METRE)
        np.clip(np.rint(scaled, out=scaled), 1, BEYOND_RANGE - 1, out=scaled)
        units = scaled.astype(np.uint16)
    np.copyto(units, BEYOND_RANGE, where=depth_m > range_m)
    np.copyto(units, MISSING, where=~(depth_m > 0))
    if valid is not None:
        np.copyto(units, MISSING, where=~valid)
    return units


def encode_depth_png(depth_m: np.ndarray, *, range_m: float = 100.0, valid: np.ndarray | None = None) -> bytes:
    """Distances (H, W) in metres to the bytes of a PNG; see `quantise_depth` for what is missing and what is beyond."""
    units = quantise_depth(depth_m, range_m=range_m, valid=valid)
    return encode_units(units)


def encode_units(units: np.ndarray) -> bytes:
    """uint16 units (H, W) to the bytes of a PNG; ValueError for a map without pixels."""
    height, width = units.shape
    if not units.size:
        raise ValueError(f"cannot write a depth map of shape {units.shape} as PNG")
    samples = units.astype(">u2").view(np.uint8).reshape(height, 2 * width)
    rows = np.empty((height, 1 + 2 * width), np.uint8)  # the filter's type before each
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    header = _HEADER.pack(width, height, 16, 0, 0, 0, 0)
    data = _deflated(rows.reshape(-1))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _deflated(content: np.ndarray) -> bytes:
    """uint8 (bytes,) as a zlib stream, the same in every process and thread."""
    compressor = isal_zlib.compressobj(_DEFLATE_LEVEL)
    first = compressor.compress(content[:_FIRST_BYTES]) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
    return first + compressor.compress(content[_FIRST_BYTES:]) + compressor.flush()


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def decode_units(data: bytes, out: np.ndarray | None = None) -> np.ndarray:
    """The bytes of a PNG to uint16 units (H, W); ValueError if they are not a whole 16-bit gray PNG.

    `out` of the same size may be written to, and is what is returned then.
    """
    _check_header(data)
    units = _decode_own(data, out)
    if units is None:
        units = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if units is None or units.dtype != np.uint16 or units.ndim != 2:
        raise ValueError("damaged depth PNG: it cannot be decoded")
    return units


def _decode_own(data: bytes, out: np.ndarray | None) -> np.ndarray | None:
    """Units of a map as `encode_units` writes it: one IDAT, not interlaced, "up" in every row; None for any other."""
    width, height, *_, interlaced = _HEADER.unpack(data[16:29])
    size, kind = struct.unpack(">I4s", data[_HEADER_BYTES : _HEADER_BYTES + 8])
    start, end = _HEADER_BYTES + 8, _HEADER_BYTES + 8 + size
    is_last = data[end + 8 : end + 12] == b"IEND"
    if interlaced or kind != b"IDAT" or not is_last:
        return None
    content = data[start:end]
    if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[end : end + 4], "big"):
        return None
    row_bytes = 1 + 2 * width
    try:
        rows = isal_zlib.decompressobj().decompress(content, height * row_bytes + 1)
    except IsalError:  # type: ignore[misc] - an exception, though its stub says less
        return None
    if len(rows) != height * row_bytes:
        return None
    filtered = np.frombuffer(rows, np.uint8).reshape(height, row_bytes)
    if (filtered[:, 0] != _FILTER_UP).any():
        return None
    samples = filtered[:, 1:].copy()
    for above, row in pairwise(samples):  # eight times as fast as np.add.accumulate
        np.add(above, row, out=row)
    units = out if out is not None and out.shape == (height, width) else np.empty((height, width), np.uint16)
    np.copyto(units, samples.view(">u2"))
    return units


def decode_depth_png(data: bytes) -> DepthMap:
    """The bytes of a PNG to distances in metres; ValueError if they are not a whole 16-bit gray PNG."""
    units = decode_units(data)
    beyond_range = units == BEYOND_RANGE
    return DepthMap(np.take(_METRES, units), (units != MISSING) & ~beyond_range, beyond_range)


def decode_depth_m(data: bytes) -> np.ndarray:
    """`depth_m` of `decode_depth_png` alone."""
    return np.take(_METRES, decode_units(data))


def _check_header(data: bytes) -> None:
    """Size, bit depth and colour type stand at fixed offsets; the end marker shows that the file is whole."""
    if data[:8] != _SIGNATURE or len(data) < 45:
        raise ValueError("not a PNG")
    width, height, bit_depth, colour_type = struct.unpack(">IIBB", data[16:26])
    if (bit_depth, colour_type) != (16, 0):
        raise ValueError(f"not a 16-bit gray PNG: bit depth {bit_depth}, colour type {colour_type}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"depth PNG of {width}×{height} pixels is too large")
    if data[-8:-4] != b"IEND":
        raise ValueError("truncated depth PNG")


def summarise_depth(depth_m: np.ndarray) -> dict[str, Any]:
    """Least, middle and greatest distance in metres, None where all is beyond the range, and the share that is."""
    near_m = depth_m[np.isfinite(depth_m)]
    values: list[float | None] = [None] * 3
    if near_m.size:
        half = near_m.size // 2
        parted = np.partition(near_m, half)
        middle = parted[half : half + 1] if near_m.size % 2 else (parted[:half].max(), parted[half])
        values = [round(float(value), 3) for value in (near_m.min(), *np.quantile(middle, [0.5]), near_m.max())]
    least, median, most = values
    beyond_range = round(1 - near_m.size / depth_m.size, 4)
    return {"min_m": least, "median_m": median, "max_m": most, "beyond_range": beyond_range}
