"""Reading picture files: whole ones only, told by their content, turned as they are to be shown."""

from __future__ import annotations

import io
import os
import re
import warnings
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import OpenEXR
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from ..support.files import FileError, check_readable

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
NAMED_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF, OpenEXR"
PICTURE_SUFFIXES = frozenset([".jpg", ".jpeg", ".jfif", ".insp", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
MIN_SIDE = 32  # no panorama is smaller
MAX_PIXELS = 16384 * 8192  # more than any camera records

PANORAMA_SUFFIXES = PICTURE_SUFFIXES | {".exr", ".heic", ".heif"}  # .exr may be depth elsewhere

_EXR = b"\x76\x2f\x31\x01"
_HEIF = re.compile(rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|II\*\0|MM\0\*|BM.{4}\0\0\0\0|GIF8[79]a|"
    + re.escape(_EXR)
    + b"|"
    + _HEIF.pattern,
    re.DOTALL,
)
_NOT_READ = frozenset([".heic", ".heif", ".avif", ".exr", ".hdr", ".dng", ".jp2", ".jxl", ".psd"])  # pictures, though
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_NOT_ONE = f"not a picture of these formats: {NAMED_FORMATS}"
_GREY = 0.18  # the mean brightness of a picture, as photographers have it
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DECODERS_RAISE = (RuntimeError, OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError)


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

    OpenEXR, linear and of any brightness, is exposed and mapped to what screens show; HEIC needs pillow-heif.
    Raises PictureError: `missing_file`, `permission_denied`, `empty_file`, `unreadable` (not one of the formats),
    `too_small`, `too_large`, or `damaged`, also where the file is cut.
    """
    check_readable(path, PictureError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of sizes that are allowed here
        try:
            beginning = _beginning(path)
            if beginning.startswith(_EXR):
                return _read_exr(os.fspath(path), min_side)
            with Image.open(path, formats=_formats(beginning)) as image:
                _check_size(image.size, min_side)
                return _pixels(Path(path), image)
        except UnidentifiedImageError:
            raise PictureError("unreadable", _NOT_ONE) from None
        except PictureError:
            raise
        except Image.DecompressionBombError as error:
            raise PictureError("too_large", " ".join(str(error).split())) from error
        except _DECODERS_RAISE as error:
            raise PictureError("damaged", " ".join(str(error).split())[:200]) from error


def read_xmp(path: str | os.PathLike[str]) -> bytes:
    """The XMP packet of a picture file, where cameras say what its projection is; empty if it has none."""
    with suppress(*_DECODERS_RAISE), Image.open(path, formats=_formats(_beginning(path))) as image:
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        return packet.encode() if isinstance(packet, str) else packet
    return b""


def _beginning(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _formats(beginning: bytes) -> tuple[str, ...]:
    """The formats that Pillow is to try, HEIC among them if the file begins so; PictureError if nothing reads that."""
    if not _HEIF.match(beginning):
        return FORMATS
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports] - of the user's
    except ImportError:
        raise PictureError("unreadable", f"{_NOT_ONE}; pip install pillow-heif reads HEIC") from None
    register_heif_opener()
    return (*FORMATS, "HEIF")


def _read_exr(path: str, min_side: int) -> np.ndarray:
    """The channels R, G and B of an OpenEXR file as they would be photographed."""
    low, high = OpenEXR.File(path, header_only=True).header()["dataWindow"]
    _check_size((int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1), min_side)
    with redirect_stdout(io.StringIO()):  # where it warns of what it raises next
        channels = OpenEXR.File(path, separate_channels=True).channels()
    if not channels.keys() >= {"R", "G", "B"}:
        raise PictureError("unreadable", f"an OpenEXR file with the channels {sorted(channels)}, not R, G and B")
    return _photographed(np.stack([channels[name].pixels.astype(np.float32) for name in "RGB"], axis=-1))


def _photographed(linear: np.ndarray) -> np.ndarray:
    """uint8 sRGB of linear light (H, W, 3) by the photographic operator of Reinhard et al. (2002).

    Light is scaled so that its mean in logarithms is a middle grey; one percent of the pixels burns out to white.
    """
    linear = np.nan_to_num(linear, nan=0.0, posinf=65504.0).clip(0, 65504)
    light = linear @ _LUMINANCE
    mean = np.exp(np.log(light[light > 0]).mean(dtype=np.float64)) if light.any() else 1.0
    linear, light = linear * np.float32(_GREY / mean), light * np.float32(_GREY / mean)
    white = max(float(np.quantile(light, 0.99)), 1.0)
    shown = (linear * ((1 + light / white**2) / (1 + light))[..., None]).clip(0, 1)
    encoded = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * np.maximum(shown, 1e-9) ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)


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
