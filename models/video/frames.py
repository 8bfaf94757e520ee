"""Frames of a video at regular presentation times, in this process. Hostile files belong in models/video/decoder.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .decode import decode_at
from .decode_decord import decode_by_decord
from .file import VideoError, header_of, open_video
from .packets import OnPacket, PacketTable, ignore, read_packet_table
from .picture import Halving, Picture
from .spherical_metadata import Declared, declared_projection

Eye = Literal["both", "left", "top_half", "left_half"]
Library = Literal["pyav", "decord"]
"""What decodes: PyAV is exact in every video; decord2 is quick where it seeks, and refuses where it would be wrong."""

MAX_MISSING = 0.1  # share of the frames asked for that may not come out; a stream may hold packets without a picture
CLOCK_SLACK_S = 1e-3  # containers round times to a millisecond


OnMissing = Callable[[int], None]
"""Called with the index of a frame that was wanted and could not be decoded."""


def ignore_missing(_: int) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame, uint8 RGB (H, 2H, 3). `display_aspect` is the width / height that the video asks to be shown with.

    `declared` is what the file says about its projection, the same for all its frames; None if it says nothing.
    """

    frame_index: int
    timestamp_s: float
    display_aspect: float
    rgb: np.ndarray
    declared: Declared | None = None


def sample_frames(
    path: str,
    every_s: float,
    height: int,
    *,
    max_frames: int | None = None,
    only: Collection[int] | None = None,
    threads: int = 1,
    snap_to_keyframes: bool = False,
    start_s: float = 0.0,
    end_s: float | None = None,
    eye: Eye = "both",
    decoder: Library = "pyav",
    on_packet: OnPacket = ignore,
    on_missing: OnMissing = ignore_missing,
) -> Iterator[VideoFrame]:
    """Yields the first frame at or after every multiple of `every_s` seconds, scaled to (height, 2 * height).

    Times are presentation timestamps: frame counts and rates of containers are often wrong. With `snap_to_keyframes`
    it is the key frame nearest to every multiple, each once, which decodes nothing else. The segment from `start_s` to
    `end_s` (None: to the end), in seconds from the first frame, is sampled as if it were the whole. Of more than
    `max_frames`, as many are taken, spread over it; with `only`, those of them alone that have these indices. `eye`
    "left" crops to the left eye where the file declares two pictures in one; "top_half" and "left_half" crop to these.
    `on_packet` is called for every packet read; `on_missing`, at the end, with the index of every frame that was wanted
    and could not be decoded. Raises VideoError.
    """
    if every_s <= 0 or height <= 0:
        raise ValueError(f"every_s and height must be positive, not {every_s} and {height}")
    with open_video(path) as (container, stream):
        header, declared = header_of(stream), declared_projection(path)
        table = read_packet_table(container, stream, on_packet)
    picture = Picture(height, header.pixel_aspect, _halving(eye, declared))
    wanted = spread(_wanted(table, every_s, snap_to_keyframes, start_s, end_s), max_frames)
    if only is not None:
        wanted = wanted[np.isin(wanted, list(only))]
    missing = dict.fromkeys(wanted.tolist())
    decode = decode_by_decord if decoder == "decord" else decode_at
    for frame_index, frame in decode(path, table, wanted, threads, on_packet):
        del missing[frame_index]
        yield VideoFrame(
            frame_index=frame_index,
            timestamp_s=round(float(table.pts[frame_index].item() * table.time_base), 6),
            display_aspect=picture.display_aspect(frame),
            rgb=picture.rgb(frame),
            declared=declared,
        )
    if len(missing) > MAX_MISSING * len(wanted):
        raise VideoError("decode_failed", f"{len(missing)} of {len(wanted)} frames could not be decoded")
    for frame_index in missing:
        on_missing(frame_index)


def first_frames(timestamps_s: np.ndarray, every_s: float) -> np.ndarray:
    """Indices of the first frame of every window of `every_s` seconds; windows without a frame are left out."""
    order = np.argsort(timestamps_s, kind="stable")
    elapsed_s = timestamps_s[order] - timestamps_s[order[0]]
    _, first = np.unique(np.floor((elapsed_s + CLOCK_SLACK_S) / every_s), return_index=True)
    return np.sort(order[first])


def spread(items: np.ndarray, most: int | None) -> np.ndarray:
    """At most `most` of some items (None: all), spread evenly: the middle one of each of `most` equal parts."""
    if most is None or len(items) <= most:
        return items
    return items[(2 * np.arange(most) + 1) * len(items) // (2 * most)]


def nearest_frames(timestamps_s: np.ndarray, candidates: np.ndarray, every_s: float) -> np.ndarray:
    """Of the candidates (rising indices), the nearest to every multiple of `every_s` seconds, each once.

    Multiples count from the first frame to the last; of two candidates that are equally near, the earlier is taken.
    """
    elapsed_s = timestamps_s - timestamps_s[0]
    times_s = elapsed_s[candidates]
    middles_s = (times_s[:-1] + times_s[1:]) / 2
    nearer_than_s = np.append(middles_s, elapsed_s[-1])  # a candidate is the nearest to what lies up to here
    last_multiples_s = np.floor((nearer_than_s + CLOCK_SLACK_S) / every_s) * every_s
    return candidates[last_multiples_s > np.append(-np.inf, middles_s + CLOCK_SLACK_S)]


def _wanted(
    table: PacketTable, every_s: float, snap_to_keyframes: bool, start_s: float, end_s: float | None
) -> np.ndarray:
    elapsed_s = table.timestamps_s - table.timestamps_s.min(initial=np.inf)
    before_s = np.inf if end_s is None else end_s
    inside = np.flatnonzero((elapsed_s >= start_s - CLOCK_SLACK_S) & (elapsed_s < before_s - CLOCK_SLACK_S))
    if not len(inside):
        raise VideoError("empty_segment", f"no frame from {start_s:g} s to {before_s:g} s")
    keys = np.flatnonzero(np.isin(inside, table.key_frame_indices))
    if snap_to_keyframes and len(keys):
        return inside[nearest_frames(elapsed_s[inside], keys, every_s)]
    return inside[first_frames(elapsed_s[inside], every_s)]


def _halving(eye: Eye, declared: Declared | None) -> Halving | None:
    """Which half of the picture is wanted, if not the whole."""
    if eye == "top_half":
        return Halving("top_bottom", first=True)
    if eye == "left_half":
        return Halving("side_by_side", first=True)
    if eye == "left" and declared and declared.stereo in ("top_bottom", "side_by_side"):
        return Halving(declared.stereo, first=declared.left_first)
    return None
