"""Footage as it is filmed: consecutive frames of a video, and no truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..video.decoder import Decoder


@dataclass(frozen=True)
class Shot:
    """N consecutive frames (H, W, 3) uint8."""

    name: str
    rgbs: list[np.ndarray]


def read_frames(
    path: str, every_s: float, height: int, *, start_s: float = 0.0, end_s: float | None = None
) -> list[np.ndarray]:
    """Frames (height, 2 * height, 3) uint8 of a video, one every `every_s` seconds; raises VideoError."""
    with Decoder() as decoder:
        frames = decoder.sample_frames(path, every_s, height, start_s=start_s, end_s=end_s)
        return [frame.rgb for frame in frames]
