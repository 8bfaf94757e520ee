"""Frames of a video at regular presentation times, in this process. Hostile files belong in models/decoder.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import av
import cv2
import decord
import numpy as np
from av.error import FFmpegError

MIN_SIDE = 32  # no panorama is smaller; decord misreads pictures of 16 rows
MAX_PIXELS = 16384 * 8192  # more than any camera records; the decoder would need gigabytes for each frame
MIN_COMPLETE = (
    0.9  # share of the frames promised by the index that must be in the file; headers are off by a few frames
)
SEEK_GAIN_FRAMES = 8  # a seek empties the decoder, at about the cost of decoding this many frames
CLOCK_SLACK_S = 1e-3  # decord hands out timestamps as float32, 0.5 ms coarse after two hours

VIDEO_FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,obu,ivf"  # no playlist that names other files

decord.logging.set_level(decord.logging.FATAL)


class VideoError(ValueError):
    """A video that cannot be used. `code` is short and stable, `detail` one line for people."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class VideoFrame:
    """One frame, uint8 RGB (H, 2H, 3). `display_aspect` is the width / height that the video asks to be shown with."""

    frame_index: int
    timestamp_s: float
    display_aspect: float
    rgb: np.ndarray


@dataclass(frozen=True)
class Header:
    """What a file says about its pictures, before anything is decoded."""

    width: int
    height: int
    pixel_aspect: float
    frames: int  # as the index of the file promises; 0 where it does not say


def sample_frames(
    path: str, every_s: float, height: int, *, max_frames: int | None = None, threads: int = 1
) -> Iterator[VideoFrame]:
    """Yields the first frame at or after every multiple of `every_s` seconds, scaled to (height, 2 * height).

    Times are presentation timestamps: frame counts and rates of containers are often wrong. Raises VideoError.
    """
    if every_s <= 0 or height <= 0:
        raise ValueError(f"every_s and height must be positive, not {every_s} and {height}")
    header = read_header(path, VIDEO_FORMATS)
    may_seek = not has_open_groups(path)
    reader = _open(path, threads)
    if len(reader) < MIN_COMPLETE * header.frames:
        raise VideoError("truncated", f"{len(reader)} of {header.frames} frames are in the file")
    timestamps_s = _timestamps_s(reader)
    indices = choose_frames(timestamps_s, every_s)[:max_frames]
    for index, frame in _decode(reader, indices, may_seek=may_seek):
        yield VideoFrame(
            frame_index=index,
            timestamp_s=round(float(timestamps_s[index]), 6),
            display_aspect=_display_aspect(frame, header),
            rgb=_scaled(frame, height),
        )


def choose_frames(timestamps_s: np.ndarray, every_s: float) -> np.ndarray:
    """Indices of the first frame of every window of `every_s` seconds; windows without a frame are left out."""
    order = np.argsort(timestamps_s, kind="stable")
    elapsed_s = timestamps_s[order] - timestamps_s[order[0]]
    _, first = np.unique(np.floor((elapsed_s + CLOCK_SLACK_S) / every_s), return_index=True)
    return np.sort(order[first])


def read_header(path: str, formats: str) -> Header:
    """Opens a regular file of one of ffmpeg's `formats` and of a sane size; raises VideoError."""
    _check_file(path)
    options = {"format_whitelist": formats, "protocol_whitelist": "file"}
    try:
        with av.open(path, metadata_errors="ignore", options=options) as container:
            if not container.streams.video:
                raise VideoError("no_video_stream", "no picture track")
            return _header(container.streams.video[0])
    except (FFmpegError, OSError) as error:
        raise VideoError("truncated" if _starts_like_mp4(path) else "unreadable", _line(error)) from error


def _check_file(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError("missing_file", error.strerror or "cannot be found") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("unreadable", "not a regular file")
    if status.st_size == 0:
        raise VideoError("empty_file", "zero bytes")


def _starts_like_mp4(path: str) -> bool:
    """An MP4 that begins well and does not open has lost its index, which stands at the end."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == b"ftyp"


def _header(stream: av.VideoStream) -> Header:
    codec = stream.codec_context
    if codec is None:
        raise VideoError("unsupported_codec", "no decoder for this stream")
    if codec.width * codec.height == 0:
        raise VideoError("unreadable", "the size of the pictures is not told, or absurd")
    if min(codec.width, codec.height) < MIN_SIDE:
        raise VideoError("too_small", f"{codec.width} x {codec.height} pixels")
    if codec.width * codec.height > MAX_PIXELS:
        raise VideoError("too_large", f"{codec.width} x {codec.height} pixels")
    aspect = stream.sample_aspect_ratio or codec.sample_aspect_ratio
    return Header(codec.width, codec.height, float(aspect or 1) or 1.0, stream.frames)


def _open(path: str, threads: int) -> decord.VideoReader:
    try:
        return decord.VideoReader(path, num_threads=threads)
    except (RuntimeError, decord.DECORDError, AssertionError) as error:  # decord asserts that there are frames
        raise VideoError("unreadable", _line(error)) from error


def _timestamps_s(reader: decord.VideoReader) -> np.ndarray:
    try:
        return reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    except IndexError as error:  # decord promises frames that it has no packets for
        raise VideoError("no_frames", "no picture could be located") from error


def _decode(reader: decord.VideoReader, indices: np.ndarray, *, may_seek: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes forward only."""
    keys = np.asarray(reader.get_key_indices())
    advance = _advance_by_seeking if may_seek else _advance_by_decoding
    position = 0
    for index in map(int, indices):
        try:
            advance(reader, keys, position, index)
            frame = reader.next().asnumpy()
        except (RuntimeError, decord.DECORDError, StopIteration) as error:
            raise VideoError("decode_failed", f"frame {index}: {_line(error)}") from error
        position = index + 1
        yield index, frame


def _advance_by_seeking(reader: decord.VideoReader, keys: np.ndarray, position: int, index: int) -> None:
    """Goes over the nearest key frame where that saves decoding."""
    key = keys[max(0, np.searchsorted(keys, index, side="right") - 1)]
    if key - position > SEEK_GAIN_FRAMES:
        reader.seek_accurate(index)
    elif index > position:
        reader.skip_frames(index - position)


def _advance_by_decoding(reader: decord.VideoReader, keys: np.ndarray, position: int, index: int) -> None:
    """Never skips across a key frame, because decord would seek to it."""
    while position < index:
        next_key = keys[np.searchsorted(keys, position, side="right") :][:1]
        skipped = min([index, *(next_key - 1)]) - position
        if skipped > 0:
            reader.skip_frames(int(skipped))
        else:
            reader.next()
        position += max(1, int(skipped))


def has_open_groups(path: str) -> bool:
    """Whether frames that follow a key frame in the file are shown before it (x265's default, broadcast H.264).

    decord counts wrongly after a seek into such a group: it hands out frames that are a few places late.
    Raises VideoError where the packets cannot be read, or only with a key.
    """
    try:
        with av.open(path, metadata_errors="ignore") as container:
            key_pts = None
            for packet in container.demux(container.streams.video[0]):
                if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                    raise VideoError("encrypted", "the pictures need a key")
                if packet.pts is not None and packet.is_keyframe:
                    key_pts = packet.pts
                elif packet.pts is not None and key_pts is not None and packet.pts < key_pts:
                    return True
    except (FFmpegError, OSError) as error:
        raise VideoError("decode_failed", _line(error)) from error
    return False


def _display_aspect(frame: np.ndarray, header: Header) -> float:
    height, width = frame.shape[:2]
    turned = (width, height) == (header.height, header.width) and width != height
    return width / height * (1 / header.pixel_aspect if turned else header.pixel_aspect)


def _scaled(frame: np.ndarray, height: int) -> np.ndarray:
    if frame.shape[:2] == (height, 2 * height):
        return frame
    shrinks = frame.shape[0] >= height and frame.shape[1] >= 2 * height
    return cv2.resize(frame, (2 * height, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _line(error: BaseException) -> str:
    """The telling part of a library's message, in one line, without paths and stack traces."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][-200:]
