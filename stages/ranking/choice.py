"""Choosing the best under rules: samples are taken best first, and what breaks a rule is passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ...models.frames.near_duplicates import NearDuplicates


@dataclass(frozen=True)
class Diversity:
    """At most so many samples of a video and of a shot, and none that nearly repeats a better one of the whole run.

    A panorama that is of no video counts as a video of one shot.

    near_duplicate_bits: pictures whose yaw-invariant hashes differ by at most so many bits are near duplicates.
    """

    max_per_video: int | None = None
    max_per_shot: int | None = None
    near_duplicate_bits: int | None = None

    def __post_init__(self) -> None:
        if any(value is not None and value < 1 for value in (self.max_per_video, self.max_per_shot)):
            raise ValueError("select: max_per_video and max_per_shot must be at least 1")
        if self.near_duplicate_bits is not None and self.near_duplicate_bits < 0:
            raise ValueError("select: near_duplicate_bits must be at least 0")

    @property
    def needs_frames(self) -> bool:
        """Whether more than a sample's key is needed."""
        return self.max_per_shot is not None or self.near_duplicate_bits is not None


@dataclass(frozen=True)
class Strata:
    """Even shares of a quota: `by` a field of the frame's JSON, such as `quality.brightness`, cut at `edges`.

    Without edges every value is a stratum. What a stratum cannot fill goes to the best of the others.
    """

    by: str
    edges: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """What choosing looks at; candidates come best first."""

    video_id: str
    shot: int = 0
    hash: int = 0
    stratum: str = ""


class Chooser:
    """Chooses under the rules of diversity, over all scenes of a run: scenes are chosen from one after another."""

    def __init__(self, diversity: Diversity):
        self._diversity = diversity
        self._of_video: Counter[str] = Counter()
        self._of_shot: Counter[tuple[str, int]] = Counter()
        bits = diversity.near_duplicate_bits
        self._pictures = None if bits is None else NearDuplicates(bits)

    def choose(self, candidates: Iterable[Candidate], count: int) -> list[int]:
        """The numbers of up to `count` candidates, the best first, evenly over the strata as far as these go."""
        candidates = list(candidates)
        strata = Counter(candidate.stratum for candidate in candidates)
        room = dict(zip(sorted(strata), _even_shares([strata[name] for name in sorted(strata)], count), strict=True))
        chosen, passed = [], []
        for number, candidate in enumerate(candidates):
            if not room[candidate.stratum]:
                passed.append(number)
            elif self._take(candidate):
                room[candidate.stratum] -= 1
                chosen.append(number)
        rest = self._first(((number, candidates[number]) for number in passed), count - len(chosen))
        return sorted([*chosen, *rest])

    def _first(self, candidates: Iterator[tuple[int, Candidate]], count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count and (one := next(candidates, None)):
            found += [one[0]] if self._take(one[1]) else []
        return found

    def _take(self, candidate: Candidate) -> bool:
        """Counts the candidate in, unless that breaks a rule."""
        rules, shot = self._diversity, (candidate.video_id, candidate.shot)
        if rules.max_per_video is not None and self._of_video[candidate.video_id] >= rules.max_per_video:
            return False
        if rules.max_per_shot is not None and self._of_shot[shot] >= rules.max_per_shot:
            return False
        if self._pictures is not None:
            if self._pictures.near(candidate.hash):
                return False
            self._pictures.add(candidate.hash)
        self._of_video[candidate.video_id] += 1
        self._of_shot[shot] += 1
        return True


def _even_shares(sizes: list[int], count: int) -> list[int]:
    """`count` over strata of these sizes: as even as can be, none above its size; the first ones get what is odd."""
    shares = [0] * len(sizes)
    while (left := count - sum(shares)) > 0 and (open_ones := [i for i, size in enumerate(sizes) if shares[i] < size]):
        for place, i in enumerate(open_ones):
            even = left // len(open_ones) + (place < left % len(open_ones))
            shares[i] += min(even, sizes[i] - shares[i])
    return shares


def stratum_of(value: object, edges: list[float]) -> str:
    """The stratum of a field's value: the part between edges, or the value itself; `none` where there is none."""
    if value is None:
        return "none"
    if not edges:
        return str(value)
    if not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number, and cannot be cut at edges")
    return f"{int(np.searchsorted(edges, value, side='right')):03d}"
