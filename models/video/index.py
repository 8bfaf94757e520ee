"""When the pictures of a video are shown, and where decoding can begin: one pass over its packets, none decoded."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from .file import VideoError, one_line

MIN_COMPLETE = 0.9  # share of the frames promised by the index that must be in the file
UNKNOWN = -(2**63)
KEY, HIDDEN, CORRUPT = 1, 2, 4  # hidden: cut off by an edit list

Alive = Callable[[], None]
"""Called with every packet that is read: hours of video may pass before the next frame that is wanted."""


@dataclass(frozen=True)
class VideoIndex:
    """The pictures that are shown, in order: a picture's place here is its frame index.

    Ordinals count packets in the order of the file, which is that of decoding. Key frames are pictures at which
    decoding can begin, shown or not. Of packets with the same time the last one counts.
    """

    pts: np.ndarray  # int64, rising, in units of time_base
    ordinals: np.ndarray
    key_pts: np.ndarray  # rising
    key_ordinals: np.ndarray
    time_base: Fraction
    timed: bool  # whether packets carry presentation times; else `pts` are those of decoding, or counted

    @property
    def timestamps_s(self) -> np.ndarray:
        return self.pts * float(self.time_base)

    @property
    def key_places(self) -> np.ndarray:
        """Places of the key frames that are shown."""
        return np.flatnonzero(np.isin(self.pts, self.key_pts))


def nobody() -> None:
    """Listens to no sign of life."""


def index_video(container: InputContainer, stream: av.VideoStream, alive: Alive = nobody) -> VideoIndex:
    """Raises VideoError where packets cannot be read, are missing, or need a key."""
    seen = _Seen()
    try:
        for packet in packets(container, stream, alive):
            seen.add(packet)
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                raise VideoError("encrypted", "the pictures need a key")
    except (FFmpegError, OSError) as error:
        seen.check_complete(stream)
        raise VideoError("decode_failed", one_line(error)) from error
    seen.check_complete(stream)
    return seen.index(stream)


def packets(container: InputContainer, stream: av.VideoStream, alive: Alive = nobody) -> Iterator[av.Packet]:
    """All packets of the stream that hold anything."""
    for packet in container.demux(stream):
        alive()
        if packet.size:
            yield packet


class _Seen:
    """Packets as they come: a few bytes each, for there may be millions."""

    def __init__(self) -> None:
        self._pts, self._dts, self._flags = array("q"), array("q"), bytearray()

    def add(self, packet: av.Packet) -> None:
        self._pts.append(UNKNOWN if packet.pts is None else packet.pts)
        self._dts.append(UNKNOWN if packet.dts is None else packet.dts)
        self._flags.append(KEY * packet.is_keyframe | HIDDEN * packet.is_discard | CORRUPT * packet.is_corrupt)

    def check_complete(self, stream: av.VideoStream) -> None:
        """An MP4 lists every picture up front; other containers promise nothing that is worth believing."""
        promised = len(stream.index_entries) if stream.container.format.name.startswith("mov") else 0
        read = int(np.sum(np.frombuffer(self._flags, np.uint8) & CORRUPT == 0))
        if read < MIN_COMPLETE * promised:
            raise VideoError("truncated", f"{read} of {promised} frames are in the file")

    def index(self, stream: av.VideoStream) -> VideoIndex:
        flags = np.frombuffer(self._flags, np.uint8)
        sound = flags & CORRUPT == 0
        pts, dts = np.frombuffer(self._pts, np.int64), np.frombuffer(self._dts, np.int64)
        timed = bool(np.all(pts[sound] != UNKNOWN)) and not _reorders_untold(stream)
        counted = np.arange(len(pts)) * _ticks_a_picture(stream)
        times = pts if timed else np.where(dts == UNKNOWN, counted, dts)
        keys = np.flatnonzero(sound & (flags & KEY > 0))
        shown = np.flatnonzero(sound & (flags & HIDDEN == 0))
        if len(keys):
            shown = shown[times[shown] >= times[keys].min()]  # what comes before cannot be decoded
        if len(shown) == 0:
            raise VideoError("no_frames", "no picture could be located")
        time_base = Fraction(stream.time_base or 1)
        return VideoIndex(*_by_mtime(times, shown), *_by_mtime(times, keys), time_base, timed)


def _by_mtime(times: np.ndarray, ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising times of these packets, and the last packet of each."""
    rising, last = np.unique(times[ordinals[::-1]], return_index=True)
    return rising, ordinals[::-1][last]


def _reorders_untold(stream: av.VideoStream) -> bool:
    """An AVI numbers packets as they come, also where pictures are shown in another order."""
    return stream.container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _ticks_a_picture(stream: av.VideoStream) -> int:
    """By the rate that the stream claims: for bare streams, which know no other time."""
    return max(1, round(1 / ((stream.guessed_rate or 25) * (stream.time_base or 1))))
