"""Memory that two processes share, through which decoded frames come: a few slots, used in turn."""

from __future__ import annotations

import mmap
import os

import numpy as np

SLOTS = 3  # frames that may be decoded ahead
FREE = b""  # message to the child: one more slot may be written again


class FrameRing:
    """Slots for uint8 frames (height, 2 * height, 3) in an open memory file, which grows where it is too small."""

    def __init__(self, memory: int, height: int) -> None:
        self._shape = (height, 2 * height, 3)
        self._bytes = 6 * height * height
        if os.fstat(memory).st_size < SLOTS * self._bytes:
            os.ftruncate(memory, SLOTS * self._bytes)
        self._map = mmap.mmap(memory, SLOTS * self._bytes)

    def slot(self, number: int) -> np.ndarray:
        """Where the frame of this number goes: a view, written by one process and read by the other."""
        offset = number % SLOTS * self._bytes
        return np.frombuffer(self._map, np.uint8, self._bytes, offset).reshape(self._shape)
