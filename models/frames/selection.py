"""Which of a video's frames are kept: those that nothing stands against, that blend no two shots, and that are new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from .analyzer import AnalyzedFrame
from .shots import is_blend, is_cut, is_frozen
from .yaw_hash import hash_distance

# Codes that say nothing about a video's projection, for its frames were not looked at with that question
UNTOLD = frozenset({"blank", "black", "title_card", "frozen", "near_duplicate"})
# Codes of frames that are whole panoramas all the same
WHOLE = frozenset({"blurred", "transition"})

T = TypeVar("T")


@dataclass(frozen=True)
class SelectedFrame:
    """A frame and what becomes of it: kept if `code` is empty. `shot` counts from 0."""

    examined: AnalyzedFrame
    shot: int
    code: str
    detail: str = ""


@dataclass(frozen=True)
class FrameSelector:
    """Chooses among the frames of one video, which come in order; holds two of them, and the hashes of those kept.

    near_duplicate_bits: frames whose hashes differ by so many bits at most show the same; None: they may.
    """

    near_duplicate_bits: int | None

    def choose(self, frames: Iterable[AnalyzedFrame]) -> Iterator[SelectedFrame]:
        """Says of every frame what becomes of it, in order."""
        kept: list[int] = []
        still: AnalyzedFrame | None = None  # the last frame that was not frozen: small changes add up
        for shot, frame, blend in _shots(frames):
            code, detail = frame.code, frame.detail
            if (
                self.near_duplicate_bits is not None
                and code not in UNTOLD
                and still
                and is_frozen(still.look, frame.look)
            ):
                code, detail = "frozen", ""
            elif not code and blend:
                code = "transition"
            elif not code and (twin := self._twin(kept, frame)) is not None:
                code, detail = "near_duplicate", f"{twin} bits"
            if code != "frozen":
                still = frame
            if not code:
                kept.append(frame.yaw_hash)
            yield SelectedFrame(frame, shot, code, detail)

    def _twin(self, kept: Sequence[int], frame: AnalyzedFrame) -> int | None:
        """The distance to the kept frame that is most alike, if that is a near duplicate."""
        if self.near_duplicate_bits is None:
            return None
        nearest = min((hash_distance(one, frame.yaw_hash) for one in kept), default=None)
        return nearest if nearest is not None and nearest <= self.near_duplicate_bits else None


def _shots(frames: Iterable[AnalyzedFrame]) -> Iterator[tuple[int, AnalyzedFrame, bool]]:
    """Every frame with the number of its shot, and whether it is a blend of that before and that after it."""
    shot, before, frame = 0, None, None
    for after in chain(frames, (None,)):
        if frame is not None:
            blend = bool(before and after and is_blend(before.look, frame.look, after.look))
            if not blend:
                shot += before is not None and is_cut(before.look, frame.look)
                before = frame
            yield shot, frame, blend
        frame = after


def evenly(items: Sequence[T], count: int | None) -> list[T]:
    """`count` of the items (None: all), spread over the whole sequence: the middle one of each of as many parts."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[(2 * part + 1) * len(items) // (2 * count)] for part in range(count)]
