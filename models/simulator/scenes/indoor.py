"""Indoor scenes: a floor cut into rooms that see each other through doorways, windows to a yard, furniture, lamps."""

import numpy as np

from ..appearance.palette import Palette
from ..appearance.sky import Sky
from ..geometry.mesh import Frame, Materials, MeshBuilder
from .floorplan import WALL_M, Opening, Room, cut, stand, walls
from .furniture import ROOMS, Piece
from .world import Lamp, Region

DOOR_HEAD_M = 2.08
Span = tuple[float, float]


class House:
    """Builds one floor; `lamps` and `regions` are read when it is done."""

    def __init__(self, look: str, sky: Sky, palette: Palette, rng: np.random.Generator) -> None:
        self.look, self.sky, self.palette, self.rng = look, sky, palette, rng
        self.builder = MeshBuilder()
        self.lamps: list[Lamp] = []
        large = look == "field" and rng.random() < 0.4
        self.height = float(rng.uniform(3.2, 5.0) if large else rng.uniform(2.4, 3.0))
        self.daylight = np.array([1.0, 0.98, 0.94]) * rng.uniform(1.5, 3.0)
        low, high = (6.0, 14.0) if large else (5.0, 8.0)
        self.whole = Room(0, 0, rng.uniform(6, 15), rng.uniform(5, 12))
        self.rooms = cut(rng, self.whole, low, high)
        uses = list(ROOMS[look])
        for room in self.rooms:
            room.use = uses[rng.integers(len(uses))]

    @property
    def regions(self) -> list[Region]:
        inset = WALL_M / 2 + 0.3
        return [Region((r.x0 + inset, r.y0 + inset), (r.x1 - inset, r.y1 - inset)) for r in self.rooms]

    def build(self) -> None:
        self.walls = {id(room): self.palette.new("wall") for room in self.rooms}
        trim = self.palette.new("trim")
        for room in self.rooms:
            self._floor_and_ceiling(room)
        for along, at, start, end, sides in walls(self.rooms):
            self._wall(along, at, start, end, sides, trim)
        for room in self.rooms:
            self._light(room)
            self._furnish(room)
        self._yard()

    def _floor_and_ceiling(self, room: Room) -> None:
        (cx, cy), (dx, dy) = room.centre, room.size
        floor, anchor = self.palette.new("floor"), (room.x0, room.y0, 0.0)
        self.builder.put("box", (cx, cy, -0.1), (dx, dy, 0.2), floor, anchor=anchor)
        ceiling = self.palette.some("ceiling")
        self.builder.put("box", (cx, cy, self.height + 0.1), (dx, dy, 0.2), ceiling, anchor=anchor)
        if self.look == "field" and self.rng.random() < 0.3:
            beam = self.palette.some("wood")
            for x in np.arange(room.x0 + 0.6, room.x1 - 0.3, self.rng.uniform(0.9, 1.8)):
                self.builder.put("box", (x, cy, self.height - 0.1), (0.14, dy, 0.2), beam)

    def _wall(self, along: int, at: float, start: float, end: float, sides: list[Room], trim: int) -> None:
        """A wall along axis `along` at coordinate `at` of the other, between one or two rooms, with its openings."""
        length = end - start
        openings = self._doorway(length) if len(sides) == 2 else self._windows(length)
        self._wall_boxes(along, at, start, end, openings, sides, trim)
        for opening in openings:
            middle = start + opening.start + opening.width / 2
            x, y = (middle, at) if along == 0 else (at, middle)
            if opening.sill == 0:
                for room in sides:
                    room.keep.append((x, y, opening.width / 2 + 0.5))
                self._door_leaf(along, at, start + opening.start, opening, sides)
            else:
                self._window(along, at, start, opening, sides[0])
        for room in sides:
            self._decorate(along, at, start, end, openings, room, trim)

    def _doorway(self, length: float) -> list[Opening]:
        if length < 1.3 or self.rng.random() < 0.15:
            return []
        wide = length > 3 and self.rng.random() < 0.4
        width = self.rng.uniform(1.4, min(3.2, length - 0.6)) if wide else self.rng.uniform(0.8, 0.95)
        start = self.rng.uniform(0.2, max(0.2, length - width - 0.2))
        return [Opening(start, width, 0.0, self.height - 0.25 if wide else DOOR_HEAD_M)]

    def _windows(self, length: float) -> list[Opening]:
        if length < 1.8 or self.rng.random() < 0.3:
            return []
        count = int(self.rng.integers(1, 1 + max(1, int(length / 2.4))))
        sill = float(self.rng.choice([0.12, 0.85, 0.95]))
        head = min(self.height - 0.3, self.rng.uniform(2.0, 2.5))
        share = length / count
        width = self.rng.uniform(0.8, min(2.4, share - 0.7))
        return [Opening(share * (i + 0.5) - width / 2, width, sill, head) for i in range(count)]

    def _wall_boxes(
        self, along: int, at: float, start: float, end: float, openings: list[Opening], sides: list[Room], trim: int
    ) -> None:
        """The solid parts: piers between openings, and what is below and above each opening."""
        cursor = start
        pieces = []
        for o in openings:
            a, b = start + o.start, start + o.start + o.width
            pieces += [(cursor, a, 0.0, self.height), (a, b, o.head, self.height), (a, b, 0.0, o.sill)]
            cursor = b
        pieces.append((cursor, end, 0.0, self.height))
        materials = self._wall_materials(along, at, sides, trim)
        for a, b, low, high in pieces:
            if b - a > 1e-3 and high - low > 1e-3:
                self._slab(along, at, (a, b), (low, high), WALL_M, materials)

    def _wall_materials(self, along: int, at: float, sides: list[Room], trim: int) -> tuple[int, ...]:
        """Each side of a wall has the colour of its room; the outside has its own."""
        faces = [trim] * 6
        other = 1 - along
        for sign, slot in ((1, 2 * other), (-1, 2 * other + 1)):
            room = next((r for r in sides if (r.centre[other] - at) * sign > 0), None)
            faces[slot] = self.walls[id(room)] if room else self.palette.some("masonry", 1)
        return tuple(faces)

    def _slab(
        self, along: int, at: float, span: Span, rise: Span, thick: float, materials: Materials, shift: float = 0.0
    ) -> None:
        """A box inside a wall's plane, its texture anchored to the world so that pieces of one wall match."""
        middle, length = (span[0] + span[1]) / 2, span[1] - span[0]
        z, tall = (rise[0] + rise[1]) / 2, rise[1] - rise[0]
        x, y = (middle, at + shift) if along == 0 else (at + shift, middle)
        size = (length, thick, tall) if along == 0 else (thick, length, tall)
        self.builder.put("box", (x, y, z), size, materials, anchor=(x - size[0] / 2, y - size[1] / 2, rise[0]))

    def _door_leaf(self, along: int, at: float, start: float, opening: Opening, sides: list[Room]) -> None:
        if opening.width > 1.0 or self.rng.random() < 0.35:
            return
        swing = self.rng.uniform(0.7, 1.6) * (1 if sides[0].centre[1 - along] > at else -1)
        x, y = (start, at) if along == 0 else (at, start)
        frame = Frame(self.builder, (x, y, 0.0), (0 if along == 0 else np.pi / 2) + swing * (1 if along == 0 else -1))
        frame.standing(
            "box", opening.width / 2, 0, 0.01, (opening.width, 0.04, opening.head - 0.03), self.palette.some("door", 1)
        )

    def _window(self, along: int, at: float, start: float, opening: Opening, room: Room) -> None:
        a, b = start + opening.start, start + opening.start + opening.width
        frame = self.palette.some("trim", 1)
        for rise in ((opening.sill, opening.sill + 0.05), (opening.head - 0.05, opening.head)):
            self._slab(along, at, (a, b), rise, 0.08, frame)
        bars = max(2, round(opening.width / 0.8) + 1)
        for edge in np.linspace(a + 0.025, b - 0.025, bars):
            self._slab(along, at, (edge - 0.025, edge + 0.025), (opening.sill, opening.head), 0.07, frame)
        inward = np.zeros(3)
        inward[1 - along] = np.sign(room.centre[1 - along] - at)
        middle = (a + b) / 2
        place = np.array([middle, at, 0.0] if along == 0 else [at, middle, 0.0])
        place[2] = (opening.sill + opening.head) / 2
        area = opening.width * (opening.head - opening.sill)
        self.lamps.append(Lamp(place + inward * 0.2, self.daylight * area, 0.4, *room.box, inward))
        if self.rng.random() < 0.6:
            self._curtains(along, at + 0.16 * inward[1 - along], a, b, opening.head)

    def _curtains(self, along: int, at: float, a: float, b: float, head: float) -> None:
        material = self.palette.some("curtain")
        wide = min(0.45, (b - a) / 3)
        for low, high in ((a - 0.25, a - 0.25 + wide), (b + 0.25 - wide, b + 0.25)):
            s = np.linspace(low, high, 17)
            fold = at + 0.03 * np.sin(np.arange(17) * 1.6)
            line = np.column_stack([s, fold] if along == 0 else [fold, s])
            bottom, top = np.c_[line, np.full(17, 0.06)], np.c_[line, np.full(17, head + 0.1)]
            i = np.arange(16)
            faces = np.concatenate([np.c_[i, i + 1, i + 18], np.c_[i, i + 18, i + 17]])
            uv = np.concatenate([np.c_[s * 2, np.zeros(17)], np.c_[s * 2, np.full(17, head)]])
            self.builder.surface(np.concatenate([bottom, top]), faces, uv, material)

    def _decorate(
        self, along: int, at: float, start: float, end: float, openings: list[Opening], room: Room, trim: int
    ) -> None:
        """Skirting boards and pictures on the room's side of a wall."""
        sign = np.sign(room.centre[1 - along] - at)
        doors = [(start + o.start, start + o.start + o.width) for o in openings if o.sill == 0]
        cursor = start
        for a, b in [*doors, (end, end)]:
            if a - cursor > 0.1:
                self._slab(along, at, (cursor, a), (0.0, 0.09), 0.03, trim, sign * (WALL_M / 2 + 0.01))
            cursor = b
        if self.rng.random() < 0.6 and end - start > 1.2:
            width, tall = self.rng.uniform(0.4, 1.2), self.rng.uniform(0.4, 0.9)
            a = self.rng.uniform(start + 0.2, max(start + 0.21, end - width - 0.2))
            if all(a > start + o.start + o.width + 0.1 or a + width < start + o.start - 0.1 for o in openings):
                picture = self.palette.new("picture", (width, tall))
                x, y = (a + width / 2, at + sign * (WALL_M / 2 + 0.015))[:: 1 if along == 0 else -1]
                size = (width, 0.03, tall) if along == 0 else (0.03, width, tall)
                self.builder.put("box", (x, y, 1.6), size, picture)

    def _light(self, room: Room) -> None:
        (cx, cy), (dx, dy) = room.centre, room.size
        drop = float(self.rng.choice([0.06, 0.5])) if self.height < 3.1 else float(self.rng.uniform(0.5, 1.5))
        grid = [(0.0, 0.0)] if dx * dy < 45 else [(-dx / 4, 0.0), (dx / 4, 0.0)]
        warm = np.array([1.0, 0.86, 0.68]) if self.rng.random() < 0.6 else np.array([0.95, 0.98, 1.0])
        power = warm * self.rng.uniform(1.5, 4.0) * (1 if self.rng.random() < 0.8 else 0.15) * (self.height / 2.6) ** 2
        for x, y in grid:
            place = (cx + x, cy + y, self.height - drop)
            size = (0.45, 0.45, 0.1) if drop < 0.1 else (0.35, 0.35, 0.22)
            self.builder.put("cylinder" if drop < 0.1 else "taper", place, size, self.palette.some("lamp", 1))
            if drop > 0.1:
                rod = (0.02, 0.02, drop)
                self.builder.put(
                    "cylinder", (place[0], place[1], self.height - drop / 2), rod, self.palette.some("black")
                )
            self.lamps.append(Lamp(np.array(place) - [0, 0, 0.16], power, 0.15, *room.box))

    def _furnish(self, room: Room) -> None:
        walls, middle = ROOMS[self.look][room.use]
        taken: list[tuple[float, float, float, float]] = []
        for _ in range(int(self.rng.integers(7, 14))):
            self._try_piece(room, walls[self.rng.integers(len(walls))], True, taken)
        for _ in range(int(self.rng.integers(1, 3 + int(room.size[0] * room.size[1] / 25)))):
            self._try_piece(room, middle[self.rng.integers(len(middle))], False, taken)
        if self.rng.random() < 0.6:
            (cx, cy), (dx, dy) = room.centre, room.size
            size = (dx * self.rng.uniform(0.3, 0.55), dy * self.rng.uniform(0.3, 0.55), 0.012)
            self.builder.put("box", (cx, cy, 0.006), size, self.palette.some("rug"))

    def _try_piece(self, room: Room, piece: Piece, at_wall: bool, taken: list) -> None:
        """Builds the piece aside, looks at its footprint, and keeps it when that is free."""
        aside = MeshBuilder()
        depth, width = piece(Frame(aside), self.palette, self.rng)
        x, y, yaw = stand(room, depth, at_wall, self.rng)
        cos, sin = np.cos(yaw), np.sin(yaw)
        cx, cy = x + cos * depth / 2, y + sin * depth / 2
        hx, hy = (abs(cos) * depth + abs(sin) * width) / 2, (abs(sin) * depth + abs(cos) * width) / 2
        inside = room.holds(cx - hx, cy - hy, cx + hx, cy + hy)
        apart = all(abs(cx - tx) > hx + tw or abs(cy - ty) > hy + th for tx, ty, tw, th in taken)
        clear = all(max(abs(cx - kx) - hx, abs(cy - ky) - hy) > r * 0.75 for kx, ky, r in room.keep)
        if inside and apart and clear:
            taken.append((cx, cy, hx + 0.05, hy + 0.05))
            self.builder.adopt(aside, (x, y, 0.0), yaw)

    def _yard(self) -> None:
        """What the windows look at: ground, walls and trees some way off, from the ground floor or higher up."""
        below = float(self.rng.choice([-0.3, -0.3, -4.0, -12.0]))
        cx, cy = self.whole.centre
        self.builder.put("box", (cx, cy, below - 0.5), (300, 300, 1.0), self.palette.new("grass"))
        for angle in np.arange(7) * 0.9 + self.rng.uniform(0, 1):
            away = self.rng.uniform(16, 45)
            x, y = cx + away * np.cos(angle), cy + away * np.sin(angle)
            if self.rng.random() < 0.5:
                tall = self.rng.uniform(6, 25)
                size = (self.rng.uniform(8, 14), self.rng.uniform(8, 14), tall)
                self.builder.put("box", (x, y, below + tall / 2), size, self.palette.some("facade"), yaw=angle)
            else:
                tall = self.rng.uniform(4, 9)
                self.builder.put("cylinder", (x, y, below + tall / 4), (0.3, 0.3, tall / 2), self.palette.some("trunk"))
                self.builder.put(
                    "blob2",
                    (x, y, below + tall * 0.65),
                    (tall * 0.7, tall * 0.7, tall * 0.7),
                    self.palette.some("leaf"),
                )
