"""Which of a video's frames are kept: those without a fault, that are no blend of two shots, and that are new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from .analyzer import AnalyzedFrame
from .shots import is_blend, is_cut, is_frozen
from .yaw_hash import hash_distance

# Codes of frames whose projection was not checked: they do not count for or against the video
UNINFORMATIVE_CODES = frozenset({"blank", "black", "title_card", "frozen", "near_duplicate"})
# Codes of frames that are dropped although they are whole panoramas
WHOLE_PANORAMA_CODES = frozenset({"blurred", "transition"})


@dataclass(frozen=True)
class SelectedFrame:
    """A frame and its code, empty if it is kept. `shot` counts from 0."""

    analyzed: AnalyzedFrame
    shot: int
    code: str
    detail: str = ""


@dataclass(frozen=True)
class FrameSelector:
    """Selects among the frames of one video, which come in order; holds two of them, and the hashes of those kept.

    near_duplicate_bits: frames whose hashes differ by at most so many bits are near duplicates (None: all are kept).
    """

    near_duplicate_bits: int | None

    def select(self, frames: Iterable[AnalyzedFrame]) -> Iterator[SelectedFrame]:
        """Every frame with its code, in order."""
        kept: list[int] = []
        still: AnalyzedFrame | None = None  # the last frame that was not frozen: small changes add up
        for shot, frame, blend in _shots(frames):
            code, detail = frame.code, frame.detail
            if (
                self.near_duplicate_bits is not None
                and code not in UNINFORMATIVE_CODES
                and still
                and is_frozen(still.signature, frame.signature)
            ):
                code, detail = "frozen", ""
            elif not code and blend:
                code = "transition"
            elif not code and (distance := self._duplicate_distance(kept, frame)) is not None:
                code, detail = "near_duplicate", f"{distance} bits"
            if code != "frozen":
                still = frame
            if not code:
                kept.append(frame.yaw_hash)
            yield SelectedFrame(frame, shot, code, detail)

    def _duplicate_distance(self, kept: Sequence[int], frame: AnalyzedFrame) -> int | None:
        """The hash distance to the most similar kept frame, if that makes it a near duplicate."""
        if self.near_duplicate_bits is None:
            return None
        nearest = min((hash_distance(one, frame.yaw_hash) for one in kept), default=None)
        return nearest if nearest is not None and nearest <= self.near_duplicate_bits else None


def _shots(frames: Iterable[AnalyzedFrame]) -> Iterator[tuple[int, AnalyzedFrame, bool]]:
    """Every frame with the number of its shot, and whether it is a blend of that before and that after it."""
    shot, before, frame = 0, None, None
    for after in chain(frames, (None,)):
        if frame is not None:
            blend = bool(before and after and is_blend(before.signature, frame.signature, after.signature))
            if not blend:
                shot += before is not None and is_cut(before.signature, frame.signature)
                before = frame
            yield shot, frame, blend
        frame = after
