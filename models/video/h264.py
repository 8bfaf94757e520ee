"""Pictures as an H.264 video in an MP4 file, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

# x264's macroblock tree depends on what the heap held before: measured with x264's assembly on, gone without the tree
REPEATABLE = {"preset": "veryfast", "threads": "1", "flags": "+bitexact", "x264-params": "mbtree=0"}
_TICKS_PER_S = 90_000


def write_mp4(path: str, pictures: Iterable[tuple[float, np.ndarray]], *, crf: int = 20) -> None:
    """Writes pictures, uint8 RGB (H, W, 3) of one size with even sides, each with its time in seconds, rising.

    Raises OSError where the file cannot be written.
    """
    with av.open(path, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", options={"crf": str(crf), **REPEATABLE})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        for time_s, picture in pictures:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * _TICKS_PER_S), Fraction(1, _TICKS_PER_S)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
