"""Decodes the frames at given indices of a video, and little else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError

from .file import MAX_PIXELS, VideoError, one_line, open_video
from .packets import OnPacket, PacketTable, ignore, packets

KEYS_BACK = 4
DECODER_OPTIONS = {
    "max_pixels": str(MAX_PIXELS),  # pictures may outgrow their header
    "err_detect": "explode",  # else damage is painted over, and what refers to it passes for whole
}

IndexedFrame = tuple[int, av.VideoFrame]


def decode_at(
    path: str, table: PacketTable, wanted: np.ndarray, threads: int, on_packet: OnPacket = ignore
) -> Iterator[IndexedFrame]:
    """The frames at the rising indices `wanted`, each with its index; one that cannot be decoded is left out.

    The file is read forward, and packets between groups of wanted frames are not decoded: nothing depends on how well a
    container seeks. From the first frame that cannot be decoded on, decoding begins KEYS_BACK key frames earlier: with
    H.264's periodic intra refresh, pictures are whole only some time after a key frame. Raises VideoError.
    """
    for keys_back in (0, KEYS_BACK):
        for frame_index, frame in _decode(path, table, wanted, threads, keys_back, on_packet):
            if frame_index in wanted:  # else a frame came out of order
                yield frame_index, frame
                wanted = wanted[wanted > frame_index]


def _decode(
    path: str, table: PacketTable, wanted: np.ndarray, threads: int, keys_back: int, on_packet: OnPacket
) -> Iterator[IndexedFrame]:
    if len(wanted) == 0:
        return
    try:
        with open_video(path) as (container, stream):
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "AUTO" if threads > 1 else "NONE"
            stream.codec_context.options = DECODER_OPTIONS
            stream.codec_context.open(strict=False)  # dav1d asks only here what to skip, and nothing is to be, for good
            source = packets(container, stream, on_packet)
            if table.timed and len(table.key_pts):
                yield from _decode_groups(source, stream.codec_context, table, wanted, keys_back)
            else:
                yield from _decode_all(source, stream.codec_context, wanted)
    except (FFmpegError, OSError) as error:
        raise VideoError("decode_failed", one_line(error)) from error


@dataclass
class Group:
    """Frames that are decoded in one go, from the packet of a key frame to the last packet that is wanted."""

    key_pts: int
    first: int
    last: int
    frame_indices: dict[int, int] = field(default_factory=dict)  # by presentation time


def frame_groups(table: PacketTable, wanted: np.ndarray, keys_back: int = 0) -> Iterator[Group]:
    """Groups of frames: a new one begins where a frame's key frame comes after all packets wanted so far."""
    group = None
    for frame_index in wanted.tolist():
        pts, ordinal = table.pts[frame_index].item(), table.ordinals[frame_index].item()
        key = max(0, np.searchsorted(table.key_pts, pts, side="right") - 1 - keys_back)
        first = table.key_ordinals[key].item()
        if group is None or first > group.last:
            if group:
                yield group
            group = Group(table.key_pts[key].item(), first, ordinal)
        group.last = max(group.last, ordinal)
        group.frame_indices[pts] = frame_index
    if group:
        yield group


def _decode_groups(
    source: Iterator[av.Packet], decoder: av.VideoCodecContext, table: PacketTable, wanted: np.ndarray, keys_back: int
) -> Iterator[IndexedFrame]:
    """Ends at the first frame that cannot be decoded, unless it is the last try."""
    numbered = enumerate(source)
    for group in frame_groups(table, wanted, keys_back):
        for frame in _decode_group(numbered, decoder, group):
            if frame.pts not in group.frame_indices or frame.is_corrupt:
                continue
            if frame.pts != next(iter(group.frame_indices)) and not keys_back:
                return
            yield group.frame_indices.pop(frame.pts), frame
        if group.frame_indices and not keys_back:
            return


def _decode_group(
    source: Iterator[tuple[int, av.Packet]], decoder: av.VideoCodecContext, group: Group
) -> Iterator[av.VideoFrame]:
    """Of pictures that no other refers to, only those wanted are decoded.

    Pictures that follow the key frame in the file and are shown before it may refer to what was not decoded, and are
    passed over (open groups: x265's default, broadcast H.264). So is everything between a packet that the decoder
    finds damaged and the next key frame.
    """
    key_pts, damaged = group.key_pts, False
    for ordinal, packet in source:
        if ordinal >= group.first and packet.pts is not None and packet.pts >= key_pts:
            if damaged and packet.is_keyframe:
                key_pts, damaged = packet.pts, False
            if not damaged:
                decoder.skip_frame = "DEFAULT" if packet.pts in group.frame_indices else "NONREF"
                frames = _decoded(decoder, packet)
                damaged = frames is None
                yield from frames or ()
        if ordinal >= group.last:
            break
    yield from _decoded(decoder, None) or ()
    decoder.flush_buffers()


def _decoded(decoder: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame] | None:
    """The frames that come out with a packet; None if it is damaged, and the decoder begins anew."""
    try:
        return decoder.decode(packet)
    except InvalidDataError:
        decoder.flush_buffers()
        return None


def _decode_all(
    source: Iterator[av.Packet], decoder: av.VideoCodecContext, wanted: np.ndarray
) -> Iterator[IndexedFrame]:
    """For packets without presentation times: decodes everything and counts, so that none may be damaged."""
    decoder.skip_frame = "DEFAULT"
    indices = set(wanted.tolist())
    frames = chain.from_iterable(decoder.decode(packet) for packet in chain(source, [None]))
    for frame_index, frame in enumerate(frames):
        if frame_index in indices:
            yield frame_index, frame
