"""Floor plans: rectangles cut into rooms, the walls between them, and where furniture may stand."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

WALL_M = 0.14


@dataclass
class Room:
    """An axis-aligned room between wall centre lines; `keep` holds discs (x, y, radius) that must stay free."""

    x0: float
    y0: float
    x1: float
    y1: float
    use: str = ""
    keep: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def holds(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """Whether a rectangle lies between the faces of the walls."""
        gap = WALL_M / 2 + 0.03
        return self.x0 + gap <= x0 and x1 <= self.x1 - gap and self.y0 + gap <= y0 and y1 <= self.y1 - gap

    @property
    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return (self.x0, self.y0), (self.x1, self.y1)

    def span(self, axis: int) -> tuple[float, float]:
        return (self.x0, self.x1) if axis == 0 else (self.y0, self.y1)

    @property
    def size(self) -> tuple[float, float]:
        return self.x1 - self.x0, self.y1 - self.y0


@dataclass(frozen=True)
class Opening:
    """A hole in a wall, from `start` along it, from `sill` up to `head`."""

    start: float
    width: float
    sill: float
    head: float


def cut(rng: np.random.Generator, room: Room, low: float, high: float) -> list[Room]:
    """Cuts a rectangle into rooms whose sides are at most about `high` metres."""
    dx, dy = room.size
    if max(dx, dy) <= rng.uniform(low, high) or max(dx, dy) < 5.6:
        return [room]
    share = rng.uniform(0.38, 0.62)
    if dx >= dy:
        at = room.x0 + dx * share
        halves = Room(room.x0, room.y0, at, room.y1), Room(at, room.y0, room.x1, room.y1)
    else:
        at = room.y0 + dy * share
        halves = Room(room.x0, room.y0, room.x1, at), Room(room.x0, at, room.x1, room.y1)
    return cut(rng, halves[0], low, high) + cut(rng, halves[1], low, high)


def walls(rooms: list[Room]) -> Iterator[tuple[int, float, float, float, list[Room]]]:
    """Walls once each: (axis along, coordinate, start, end, the one or two rooms beside it)."""
    for along in (0, 1):
        for line in sorted({edge for room in rooms for edge in room.span(1 - along)}):
            touching = [room for room in rooms if line in room.span(1 - along)]
            spans = [room.span(along) for room in touching]
            cuts = sorted({v for span in spans for v in span})
            for a, b in pairwise(cuts):
                sides = [r for r, (s, e) in zip(touching, spans, strict=True) if s <= a and b <= e]
                if sides:
                    yield along, line, a, b, sides


def stand(room: Room, depth: float, at_wall: bool, rng: np.random.Generator) -> tuple[float, float, float]:
    """Where the back of a piece goes, and its yaw: against a wall facing in, or anywhere."""
    gap = WALL_M / 2 + 0.05
    if not at_wall:
        yaw = float(rng.integers(4)) * np.pi / 2
        return rng.uniform(room.x0 + 1, room.x1 - 1), rng.uniform(room.y0 + 1, room.y1 - 1), yaw
    side = rng.integers(4)
    x, y = rng.uniform(room.x0 + 0.4, room.x1 - 0.4), rng.uniform(room.y0 + 0.4, room.y1 - 0.4)
    return [
        (room.x0 + gap, y, 0.0),
        (room.x1 - gap, y, np.pi),
        (x, room.y0 + gap, np.pi / 2),
        (x, room.y1 - gap, -np.pi / 2),
    ][side]
