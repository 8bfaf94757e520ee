"""Reading picture files: whole ones only, told by their content, turned as they are to be shown."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from ..support.files import FileError, check_readable

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
NAMED_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF"
PICTURE_SUFFIXES = frozenset([".jpg", ".jpeg", ".jfif", ".insp", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
MIN_SIDE = 32  # no panorama is smaller
MAX_PIXELS = 16384 * 8192  # more than any camera records

_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|II\*\0|MM\0\*|BM.{4}\0\0\0\0|GIF8[79]a", re.DOTALL
)
_NOT_READ = frozenset([".heic", ".heif", ".avif", ".exr", ".hdr", ".dng", ".jp2", ".jxl", ".psd"])  # pictures, though
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DECODERS_RAISE = (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)


class PictureError(FileError):
    """A file that is no picture, or not a whole one."""


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a picture; where it does not, whether its name says that it is one."""
    with suppress(FileError, OSError):  # reading it will tell
        check_readable(path)
        with open(path, "rb") as file:
            if _BEGINNINGS.match(file.read(16)):
                return True
    return Path(path).suffix.lower() in PICTURE_SUFFIXES | _NOT_READ


def read_picture(path: str | os.PathLike[str], min_side: int = MIN_SIDE) -> np.ndarray:
    """The pixels of a picture file as uint8 RGB (H, W, 3); the first picture where it holds several.

    Raises PictureError: `missing_file`, `permission_denied`, `empty_file`, `unreadable` (not one of the formats),
    `too_small`, `too_large`, or `damaged`, also where the file is cut.
    """
    check_readable(path, PictureError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of sizes that are allowed here
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_size(image.size, min_side)
                return _pixels(Path(path), image)
        except UnidentifiedImageError:
            raise PictureError("unreadable", f"not a picture of these formats: {NAMED_FORMATS}") from None
        except PictureError:
            raise
        except Image.DecompressionBombError as error:
            raise PictureError("too_large", " ".join(str(error).split())) from error
        except _DECODERS_RAISE as error:
            raise PictureError("damaged", " ".join(str(error).split())[:200]) from error


def _check_size(size: tuple[int, int], min_side: int) -> None:
    width, height = size
    if min(size) < min_side:
        raise PictureError("too_small", f"{width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise PictureError("too_large", f"{width} x {height} pixels")


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    """Decodes an opened picture; raises whatever its decoder does where a part is missing or damaged."""
    if image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as again:
            again.verify()  # the checksums, which decoding passes over
    elif image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        _check_jpeg(path.read_bytes())
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise PictureError("unreadable", "pixels of 32 bits a channel are not read")
    return np.array(image.convert("RGB"))  # asarray would give what cannot be written to


def _check_jpeg(data: bytes) -> None:
    """Raises ValueError for damage that other decoders paint over; zeros that cameras fill up with are none."""
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError as error:
        padding = _PADDING.match(str(error))
        if not padding or data[: data.rfind(b"\xff\xd9")][-int(padding[1]) :].strip(b"\0\xff"):
            raise
