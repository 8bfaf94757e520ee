"""The packet table of a video: when its pictures are shown, and where decoding can begin. Nothing is decoded."""

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

MIN_COMPLETE = 0.9  # share of the frames that an MP4 lists that must be in the file
UNKNOWN = -(2**63)
_RESTART_S = 1.0  # a clock that goes back by more has started again
KEY, HIDDEN, CORRUPT = 1, 2, 4  # hidden: cut off by an edit list

OnPacket = Callable[[], None]
"""Called with every packet that is read: a sign of progress, for it may take long to the next wanted frame."""


@dataclass(frozen=True)
class PacketTable:
    """The pictures that are shown, in order: a picture's position in `pts` is its frame index.

    Ordinals count packets in the order of the file, which is that of decoding. Key frames are pictures at which
    decoding can begin, shown or not. Of packets with the same time, the last one counts.
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
    def key_frame_indices(self) -> np.ndarray:
        """Frame indices of the key frames that are shown."""
        return np.flatnonzero(np.isin(self.pts, self.key_pts))


def ignore() -> None:
    """Does nothing."""


def read_packet_table(container: InputContainer, stream: av.VideoStream, on_packet: OnPacket = ignore) -> PacketTable:
    """Raises VideoError where packets cannot be read, are missing, or need a key."""
    builder = _Builder()
    try:
        for packet in packets(container, stream, on_packet):
            builder.add(packet)
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                raise VideoError("encrypted", "the pictures need a key")
    except (FFmpegError, OSError) as error:
        builder.check_complete(stream)
        raise VideoError("decode_failed", one_line(error)) from error
    builder.check_complete(stream)
    return builder.table(stream)


def packets(container: InputContainer, stream: av.VideoStream, on_packet: OnPacket = ignore) -> Iterator[av.Packet]:
    """All packets of the stream that hold anything, in running time."""
    clock = _RunningClock(stream)
    for packet in container.demux(stream):
        on_packet()
        if packet.size:
            clock.adjust(packet)
            yield packet


class _RunningClock:
    """Goes on where the clock of a stream starts again: recordings that a camera has split, and that were joined."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._slack = round(_RESTART_S / (stream.time_base or 1))
        self._offset, self._step = 0, _ticks_a_picture(stream)
        self._last: int | None = None  # time of decoding, adjusted

    def adjust(self, packet: av.Packet) -> None:
        """Moves the times of the next packet of the file behind those before it."""
        if packet.dts is None:
            return
        if self._last is not None and packet.dts + self._offset < self._last - self._slack:
            self._offset = self._last + self._step - packet.dts
        if self._offset:
            if packet.pts is not None:
                packet.pts += self._offset
            packet.dts += self._offset
        self._last = packet.dts


class _Builder:
    """Collects packets in the order of the file, a few bytes each: there may be millions."""

    def __init__(self) -> None:
        self._pts, self._dts, self._flags = array("q"), array("q"), bytearray()

    def add(self, packet: av.Packet) -> None:
        self._pts.append(UNKNOWN if packet.pts is None else packet.pts)
        self._dts.append(UNKNOWN if packet.dts is None else packet.dts)
        self._flags.append(KEY * packet.is_keyframe | HIDDEN * packet.is_discard | CORRUPT * packet.is_corrupt)

    def check_complete(self, stream: av.VideoStream) -> None:
        """Raises VideoError if much of what an MP4 lists is missing; other containers list nothing reliable."""
        promised = len(stream.index_entries) if stream.container.format.name.startswith("mov") else 0
        read = int(np.sum(np.frombuffer(self._flags, np.uint8) & CORRUPT == 0))
        if read < MIN_COMPLETE * promised:
            raise VideoError("truncated", f"{read} of {promised} frames are in the file")

    def table(self, stream: av.VideoStream) -> PacketTable:
        flags = np.frombuffer(self._flags, np.uint8)
        sound = flags & CORRUPT == 0
        pts, dts = np.frombuffer(self._pts, np.int64), np.frombuffer(self._dts, np.int64)
        timed = bool(np.all(pts[sound] != UNKNOWN)) and not _pts_are_in_file_order(stream)
        counted = np.arange(len(pts)) * _ticks_a_picture(stream)
        times = pts if timed else np.where(dts == UNKNOWN, counted, dts)
        keys = np.flatnonzero(sound & (flags & KEY > 0))
        shown = np.flatnonzero(sound & (flags & HIDDEN == 0))
        if len(keys):
            shown = shown[times[shown] >= times[keys].min()]  # what comes before cannot be decoded
        if len(shown) == 0:
            raise VideoError("no_frames", "no picture could be located")
        time_base = Fraction(stream.time_base or 1)
        return PacketTable(*_by_time(times, shown), *_by_time(times, keys), time_base, timed)


def _by_time(times: np.ndarray, ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rising times of these packets, and the last packet of each."""
    rising, last = np.unique(times[ordinals[::-1]], return_index=True)
    return rising, ordinals[::-1][last]


def _pts_are_in_file_order(stream: av.VideoStream) -> bool:
    """Whether presentation times are wrong: an AVI counts packets in file order even where pictures are reordered."""
    return stream.container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


def _ticks_a_picture(stream: av.VideoStream) -> int:
    """From the frame rate that the stream claims: for bare streams, whose packets have no times."""
    return max(1, round(1 / ((stream.guessed_rate or 25) * (stream.time_base or 1))))
