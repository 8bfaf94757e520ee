"""Whether a video as a whole is kept, from the codes of its frames."""

from __future__ import annotations

from collections import Counter

from ..video.frames import Eye
from .selection import UNINFORMATIVE_CODES, WHOLE_PANORAMA_CODES

MIN_VALID_SHARE = 0.5  # of the informative frames; below, the video is no panorama and its good frames are chance
HOPELESS_AFTER = 30  # informative frames, none of them a panorama: the rest is not decoded
STEREO_AFTER = 3  # frames that show two pictures, and no other: one eye may be read alone

_EYES: dict[str, Eye] = {"stereo_top_bottom": "top_half", "stereo_side_by_side": "left_half"}


class VideoSummary:
    """Counts the codes of a video's frames; those whose projection was not checked (black, frozen) do not count."""

    def __init__(self) -> None:
        self._codes: Counter[str] = Counter()
        self._details: dict[str, str] = {}

    def add(self, code: str, detail: str = "") -> None:
        """Counts a frame; the code is empty if it is kept."""
        self._codes[code] += 1
        self._details.setdefault(code, detail)

    @property
    def is_hopeless(self) -> bool:
        """Whether the rest of the video need not be read."""
        return self._informative >= HOPELESS_AFTER and self._invalid == self._informative

    @property
    def eye(self) -> Eye | None:
        """Where the left eye is, if all informative frames so far show two pictures in one."""
        for code, eye in _EYES.items():
            if self._codes[code] == self._informative >= STEREO_AFTER:
                return eye
        return None

    @property
    def drop(self) -> tuple[str, str] | None:
        """Code and detail if the video is dropped whole: too few of its frames are panoramas, or none is kept."""
        if not self._codes:
            return "no_frames", ""
        if self._invalid > (1 - MIN_VALID_SHARE) * self._informative:
            return self._most_frequent(self._invalid_codes)
        return None if self._codes[""] else self._most_frequent(self._codes)

    @property
    def _informative(self) -> int:
        return sum(count for code, count in self._codes.items() if code not in UNINFORMATIVE_CODES)

    @property
    def _invalid_codes(self) -> Counter[str]:
        fine = {"", *UNINFORMATIVE_CODES, *WHOLE_PANORAMA_CODES}
        return Counter({code: count for code, count in self._codes.items() if code not in fine})

    @property
    def _invalid(self) -> int:
        return sum(self._invalid_codes.values())

    def _most_frequent(self, codes: Counter[str]) -> tuple[str, str]:
        code, count = codes.most_common(1)[0]
        return code, f"{count} of {self._codes.total()} frames; {self._details[code]}".rstrip("; ")
