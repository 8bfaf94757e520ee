"""The pictures at given places of a video, and little else, decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError

from .file import MAX_PIXELS, VideoError, one_line, open_video
from .index import Alive, VideoIndex, nobody, packets

KEYS_BACK = 4
DECODER_OPTIONS = {
    "max_pixels": str(MAX_PIXELS),  # pictures may outgrow their header
    "err_detect": "explode",  # else damage is painted over, and what refers to it passes for whole
}

Placed = tuple[int, av.VideoFrame]


def decode_at(
    path: str, index: VideoIndex, wanted: np.ndarray, threads: int, alive: Alive = nobody
) -> Iterator[Placed]:
    """Frames at these rising places of the index, each with its place; one that does not come out is left out.

    The file is read forward: what lies between the last frame wanted and the next key frame before one is passed over
    undecoded, so nothing depends on how well a container seeks. Where a frame does not come out, the rest is decoded
    from KEYS_BACK key frames earlier: after those of H.264's periodic intra refresh, pictures are whole only a while
    later. Raises VideoError.
    """
    for keys_back in (0, KEYS_BACK):
        for place, frame in _decode(path, index, wanted, threads, keys_back, alive):
            if place in wanted:  # else a frame came out of order
                yield place, frame
                wanted = wanted[wanted > place]


def _decode(
    path: str, index: VideoIndex, wanted: np.ndarray, threads: int, keys_back: int, alive: Alive
) -> Iterator[Placed]:
    if len(wanted) == 0:
        return
    try:
        with open_video(path) as (container, stream):
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "AUTO" if threads > 1 else "NONE"
            stream.codec_context.options = DECODER_OPTIONS
            stream.codec_context.open(strict=False)  # dav1d asks only here what to skip, and nothing is to be, for good
            source = packets(container, stream, alive)
            if index.timed and len(index.key_pts):
                yield from _decode_groups(source, stream.codec_context, index, wanted, keys_back)
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
    places: dict[int, int] = field(default_factory=dict)  # by presentation time


def plan_groups(index: VideoIndex, wanted: np.ndarray, keys_back: int = 0) -> Iterator[Group]:
    """A frame begins a group of its own where the key frame to begin at comes after all that was wanted before."""
    group = None
    for place in wanted.tolist():
        pts, ordinal = index.pts[place].item(), index.ordinals[place].item()
        key = max(0, np.searchsorted(index.key_pts, pts, side="right") - 1 - keys_back)
        first = index.key_ordinals[key].item()
        if group is None or first > group.last:
            if group:
                yield group
            group = Group(index.key_pts[key].item(), first, ordinal)
        group.last = max(group.last, ordinal)
        group.places[pts] = place
    if group:
        yield group


def _decode_groups(
    source: Iterator[av.Packet], decoder: av.VideoCodecContext, index: VideoIndex, wanted: np.ndarray, keys_back: int
) -> Iterator[Placed]:
    """Ends at the first frame that is missed, unless it is the last try."""
    numbered = enumerate(source)
    for group in plan_groups(index, wanted, keys_back):
        for frame in _decode_group(numbered, decoder, group):
            if frame.pts not in group.places or frame.is_corrupt:
                continue
            if frame.pts != next(iter(group.places)) and not keys_back:
                return
            yield group.places.pop(frame.pts), frame
        if group.places and not keys_back:
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
                decoder.skip_frame = "DEFAULT" if packet.pts in group.places else "NONREF"
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


def _decode_all(source: Iterator[av.Packet], decoder: av.VideoCodecContext, wanted: np.ndarray) -> Iterator[Placed]:
    """For packets without presentation times: decodes everything and counts, so that none may be damaged."""
    decoder.skip_frame = "DEFAULT"
    places = set(wanted.tolist())
    frames = chain.from_iterable(decoder.decode(packet) for packet in chain(source, [None]))
    for place, frame in enumerate(frames):
        if place in places:
            yield place, frame
