"""Decodes frames by decord2, for those who know it: the same frames as PyAV's, or an error."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from .decode import IndexedFrame, decode_at
from .file import VideoError, one_line
from .packets import OnPacket, PacketTable, ignore


def decode_by_decord(
    path: str, table: PacketTable, wanted: np.ndarray, threads: int, on_packet: OnPacket = ignore
) -> Iterator[IndexedFrame]:
    """The frames at the rising indices `wanted`, each with its index, turned as the file asks for.

    Their RGB is within 40 dB (PSNR) of PyAV's. After a seek into an open group decord counts pictures that it does not
    decode, and is off by as many: such videos are refused (VideoError `open_group`), as are those whose pictures it
    sees at other times, and interlaced ones (`interlaced`), whose fields it mixes. Whatever it cannot decode costs the
    video (`decode_failed`); on short groups of HEVC it fails at random, about every second time.
    """
    import decord

    if has_open_groups(table):
        raise VideoError("open_group", "decord misplaces pictures of open groups; read it with decoder: pyav")
    if any(frame.interlaced_frame for _, frame in decode_at(path, table, wanted[:1], threads)):
        raise VideoError("interlaced", "decord mixes the fields of interlaced pictures; read it with decoder: pyav")
    try:
        reader = decord.VideoReader(path, num_threads=threads)
        starts_s = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
        for frame_index, place in zip(wanted.tolist(), _places(table, wanted, starts_s).tolist(), strict=True):
            yield frame_index, av.VideoFrame.from_ndarray(reader[place].asnumpy(), format="rgb24")
            on_packet()
    except (decord.DECORDError, IndexError, RuntimeError) as error:
        raise VideoError("decode_failed", one_line(error)) from error


def has_open_groups(table: PacketTable) -> bool:
    """Whether pictures are shown before a key frame that come after it in the file."""
    if not len(table.key_ordinals):
        return False
    order = np.argsort(table.key_ordinals)
    key = order[np.searchsorted(table.key_ordinals[order], table.ordinals, side="right") - 1]
    return bool((table.pts < table.key_pts[key]).any())


def _places(table: PacketTable, wanted: np.ndarray, starts_s: np.ndarray) -> np.ndarray:
    """Where decord has the frames, by their times from the first on; raises VideoError if it sees others."""
    times_s = table.timestamps_s - table.timestamps_s[0]
    slack_s = np.diff(times_s).min(initial=1.0) / 2
    there_s = starts_s - starts_s[0]
    after = np.searchsorted(there_s, times_s[wanted] - slack_s)
    off_s = np.abs(there_s[np.minimum(after, len(there_s) - 1)] - times_s[wanted])
    if (off_s > slack_s).any():
        raise VideoError("decode_failed", "decord sees pictures at other times; read it with decoder: pyav")
    return after
