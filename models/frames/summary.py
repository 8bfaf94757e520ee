"""The verdict on a video as a whole, from what became of its frames."""

from __future__ import annotations

from collections import Counter

from ..video.frames import Eye
from .selection import UNTOLD, WHOLE

MIN_VALID_SHARE = 0.5  # of the frames that tell; below, the video itself is no panorama and its good frames are chance
HOPELESS_AFTER = 30  # frames that tell, none of them a panorama: the rest is not decoded
STEREO_AFTER = 3  # frames that show two pictures, and no other: one eye may be read alone

_EYES: dict[str, Eye] = {"stereo_top_bottom": "top_half", "stereo_side_by_side": "left_half"}


class VideoSummary:
    """Counts the codes of a video's frames; those that tell nothing of its projection (black, frozen) do not weigh."""

    def __init__(self) -> None:
        self._codes: Counter[str] = Counter()
        self._details: dict[str, str] = {}

    def add(self, code: str, detail: str = "") -> None:
        """Takes a frame in; the code is empty if it is kept."""
        self._codes[code] += 1
        self._details.setdefault(code, detail)

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no use in looking further."""
        return self._telling >= HOPELESS_AFTER and self._invalid == self._telling

    @property
    def eye(self) -> Eye | None:
        """Where the left eye is, if all frames so far that tell show two pictures in one."""
        for code, eye in _EYES.items():
            if self._codes[code] == self._telling >= STEREO_AFTER:
                return eye
        return None

    @property
    def drop(self) -> tuple[str, str] | None:
        """Code and detail if the video is dropped whole: too few of its frames are panoramas, or none is kept."""
        if not self._codes:
            return "no_frames", ""
        if self._invalid > (1 - MIN_VALID_SHARE) * self._telling:
            return self._most_frequent(self._invalid_codes)
        return None if self._codes[""] else self._most_frequent(self._codes)

    @property
    def _telling(self) -> int:
        return sum(count for code, count in self._codes.items() if code not in UNTOLD)

    @property
    def _invalid_codes(self) -> Counter[str]:
        return Counter({c: n for c, n in self._codes.items() if c and c not in UNTOLD and c not in WHOLE})

    @property
    def _invalid(self) -> int:
        return sum(self._invalid_codes.values())

    def _most_frequent(self, codes: Counter[str]) -> tuple[str, str]:
        code, count = codes.most_common(1)[0]
        return code, f"{count} of {self._codes.total()} frames; {self._details[code]}".rstrip("; ")
