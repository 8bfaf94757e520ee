"""Ray distance as a 16-bit gray PNG: units of 1/512 m, 0 = no ground truth, 65535 = beyond the range."""

import struct
from typing import Any, NamedTuple

import cv2
import numpy as np

UNITS_PER_METRE = 512
MISSING = 0
BEYOND_RANGE = 65535
MAX_RANGE_M = (BEYOND_RANGE - 1) / UNITS_PER_METRE
"""The farthest distance that the format can hold, 127.998 m."""

MAX_PIXELS = 2**28
"""A header that promises more is refused before any memory is taken for it."""

# Fixed, so that equal maps give equal bytes whatever OpenCV's defaults become.
_PNG_PARAMETERS = (
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
)  # fmt: skip


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
    valid = np.ones(depth_m.shape, bool) if valid is None else valid
    if depth_m.ndim != 2 or valid.shape != depth_m.shape:
        raise ValueError(f"depth (H, W) and its mask must agree, not {depth_m.shape} and {valid.shape}")
    depth_m = depth_m.astype(np.float32, copy=False)
    present = (depth_m > 0) & valid
    near = present & (depth_m <= range_m)
    units = np.rint(np.where(near, depth_m, 0) * UNITS_PER_METRE).clip(1, BEYOND_RANGE - 1).astype(np.uint16)
    return np.where(near, units, np.where(present, BEYOND_RANGE, MISSING)).astype(np.uint16)


def encode_depth_png(depth_m: np.ndarray, *, range_m: float = 100.0, valid: np.ndarray | None = None) -> bytes:
    """Distances (H, W) in metres to the bytes of a PNG; see `quantise_depth` for what is missing and what is beyond."""
    units = quantise_depth(depth_m, range_m=range_m, valid=valid)
    done, data = cv2.imencode(".png", units, _PNG_PARAMETERS)
    if not done:
        raise ValueError(f"cannot write a depth map of shape {units.shape} as PNG")
    return data.tobytes()


def decode_units(data: bytes) -> np.ndarray:
    """The bytes of a PNG to uint16 units (H, W); ValueError if they are not a whole 16-bit gray PNG."""
    _check_header(data)
    units = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if units is None or units.dtype != np.uint16 or units.ndim != 2:
        raise ValueError("damaged depth PNG: it cannot be decoded")
    return units


def decode_depth_png(data: bytes) -> DepthMap:
    """The bytes of a PNG to distances in metres; ValueError if they are not a whole 16-bit gray PNG."""
    units = decode_units(data)
    beyond_range = units == BEYOND_RANGE
    valid = (units != MISSING) & ~beyond_range
    depth_m = units.astype(np.float32) / UNITS_PER_METRE
    depth_m[beyond_range] = np.inf
    depth_m[units == MISSING] = np.nan
    return DepthMap(depth_m, valid, beyond_range)


def _check_header(data: bytes) -> None:
    """Size, bit depth and colour type stand at fixed offsets; the end marker shows that the file is whole."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 45:
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
    names, quantiles = ("min_m", "median_m", "max_m"), (0.0, 0.5, 1.0)
    values = [round(float(v), 3) for v in np.quantile(near_m, quantiles)] if near_m.size else [None] * 3
    return {**dict(zip(names, values, strict=True)), "beyond_range": round(1 - near_m.size / depth_m.size, 4)}
