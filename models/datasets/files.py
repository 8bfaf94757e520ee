"""The files that data sets are made of: images, and maps as 16-bit PNG, NumPy arrays, OpenEXR or PFM. No pickles.

Readers give the pixels as they are stored, distances in metres and nan where the format says that there is none;
anything wrong is a `DatasetError` that names the file.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tokenize import TokenError

import numpy as np
import OpenEXR

from ..data.depth_png import MAX_PIXELS, decode_units
from ..data.pictures import PictureError, read_picture
from .base import DatasetError

_MISSING_UNITS = (0, 65535)  # nothing measured, and a sensor or a format at its end
_EXR_CHANNELS = ("Z", "Y", "R")
_DECODERS_RAISE = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, SyntaxError),
    *(TokenError, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def _naming(path: Path, code: str) -> Iterator[None]:
    """Turns whatever a decoder raises into a line that names the file."""
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(path, "no such file", "missing_file") from error
    except PermissionError as error:
        raise DatasetError(path, "permission denied", "permission_denied") from error
    except _DECODERS_RAISE as error:
        raise DatasetError(path, f"damaged: {' '.join(str(error).split())[:200]}", code) from error


def read_rgb(path: Path) -> np.ndarray:
    """The pixels of an image file as uint8 RGB (H, W, 3)."""
    try:
        return read_picture(path, min_side=1)
    except PictureError as error:
        if error.code == "missing_file":
            raise DatasetError(path, "no such file", error.code) from error
        if error.code == "permission_denied":
            raise DatasetError(path, error.detail, error.code) from error
        if error.code == "too_large":
            raise DatasetError(path, f"{error.detail} are too many", "bad_shape") from error
        raise DatasetError(path, f"damaged: {error.detail}", "bad_image") from error


def read_png_m(path: Path, units_per_metre: float) -> np.ndarray:
    """Distances (H, W) of a 16-bit gray PNG; 0 and 65535 are no measurement."""
    with _naming(path, "bad_depth"):
        units = decode_units(path.read_bytes())
    return np.where(np.isin(units, _MISSING_UNITS), np.float32(np.nan), units / np.float32(units_per_metre))


def read_npy_m(path: Path) -> np.ndarray:
    """Distances (H, W) of a .npy file in metres."""
    with _naming(path, "bad_depth"):
        return _distances(path, np.load(path, mmap_mode="r", allow_pickle=False))


def read_npz_m(path: Path, name: str = "arr_0") -> np.ndarray:
    """Distances (H, W) of an array of an .npz file in metres."""
    with _naming(path, "bad_depth"):
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(f"{name}.npy").file_size > 8 * MAX_PIXELS:
                raise ValueError(f"{name} is too large")
        with np.load(path, allow_pickle=False) as arrays:
            return _distances(path, arrays[name])


def read_exr_m(path: Path) -> np.ndarray:
    """Distances (H, W) of an OpenEXR file in metres: its only channel, or else the channel Z, Y or R."""
    with _naming(path, "bad_depth"):
        path.open("rb").close()  # raises the OSError that names the cause
        low, high = OpenEXR.File(str(path), header_only=True).header()["dataWindow"]
        _check_size(path, (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1))
        with redirect_stdout(io.StringIO()):  # where it warns of what it raises next
            channels = OpenEXR.File(str(path), separate_channels=True).channels()
        names = list(channels) if len(channels) == 1 else [name for name in _EXR_CHANNELS if name in channels]
        if not names:
            raise ValueError(f"has channels {sorted(channels)}, none of which is depth")
        return _distances(path, channels[names[0]].pixels)


def read_pfm(path: Path) -> np.ndarray:
    """The numbers (H, W) of a gray PFM file, as disparities are published; the first row is the uppermost."""
    with _naming(path, "bad_depth"):
        kind, size, scale, data = (path.read_bytes().split(b"\n", 3) + [b""] * 3)[:4]
        if kind.strip() != b"Pf":
            raise ValueError("is no gray PFM (it does not begin with Pf)")
        width, height = map(int, size.split())
        _check_size(path, (width, height))
        order = "<" if float(scale) < 0 else ">"
        return np.frombuffer(data, f"{order}f4", width * height).reshape(height, width)[::-1].astype(np.float32)


def _distances(path: Path, values: np.ndarray) -> np.ndarray:
    """Numbers of shape (H, W), or with further axes of length one, as float32."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.squeeze().ndim != 2:
        raise ValueError("holds no map of numbers (H, W)")
    _check_size(path, values.squeeze().shape)
    return values.squeeze().astype(np.float32)


def _check_size(path: Path, size: tuple[int, ...]) -> None:
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise DatasetError(path, f"{size[0]}×{size[1]} pixels are too many, or none", "bad_shape")
