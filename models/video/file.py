"""Opening a video or picture file: what it is, what it says about itself, and what is refused before any decoding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
from av import logging as av_logging
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition

from ..support.files import FileError, check_readable

MIN_SIDE = 32  # no panorama is smaller
MAX_PIXELS = 16384 * 8192  # more than any camera records; the decoder would need gigabytes for each frame

VIDEO_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,obu,ivf"  # no playlist that names other files

av_logging.set_level(None)


class VideoError(FileError):
    """A video that cannot be used."""


@dataclass(frozen=True)
class Header:
    """What a file says about its pictures before anything is decoded; duration and frame count are unreliable."""

    width: int
    height: int
    pixel_aspect: float


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The file and its pictures, all other streams left unread; raises VideoError."""
    with _opened(path, skip_frame="all") as container:  # else opening decodes the first picture
        stream = picture_stream(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        yield container, stream


def header_of(stream: av.VideoStream) -> Header:
    """Raises VideoError for pictures that are too small, too large, or of no known codec."""
    codec = stream.codec_context
    if codec is None:
        raise VideoError("unsupported_codec", "no decoder for this stream")
    if codec.width * codec.height == 0:
        raise VideoError("unreadable", "the size of the pictures is missing, or absurd")
    if min(codec.width, codec.height) < MIN_SIDE:
        raise VideoError("too_small", f"{codec.width} x {codec.height} pixels")
    if codec.width * codec.height > MAX_PIXELS:
        raise VideoError("too_large", f"{codec.width} x {codec.height} pixels")
    aspect = stream.sample_aspect_ratio or codec.sample_aspect_ratio
    return Header(codec.width, codec.height, float(aspect or 1) or 1.0)


def one_line(error: BaseException) -> str:
    """The essential part of a library's message, without paths and stack traces."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][-200:]


@contextmanager
def _opened(path: str, **options: str) -> Iterator[InputContainer]:
    check_readable(path, VideoError)
    options |= {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", metadata_errors="ignore", options=options)
    except (FFmpegError, OSError) as error:
        raise VideoError("truncated" if _starts_like_mp4(path) else "unreadable", one_line(error)) from error
    with container:
        yield container


def _starts_like_mp4(path: str) -> bool:
    """An MP4 that begins well and does not open has lost its index, which stands at the end."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == b"ftyp"


def picture_stream(container: InputContainer) -> av.VideoStream:
    """The stream of the largest pictures: neither a cover nor a preview."""
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise VideoError("no_video_stream", "no picture track")
    return max(moving, key=_pixels)


def _pixels(stream: av.VideoStream) -> int:
    return stream.codec_context.width * stream.codec_context.height if stream.codec_context else 0
