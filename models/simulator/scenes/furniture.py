"""Things that stand in rooms. Each is built in a local frame: x to the front, z up, the back at x = 0, y centred."""

from collections.abc import Callable

import numpy as np

from ..appearance.palette import Palette
from ..geometry.mesh import Frame

Size = tuple[float, float]  # depth (x), width (y) of the footprint in metres
Rng = np.random.Generator


def _legs(frame: Frame, depth: float, width: float, height: float, thick: float, material: int) -> None:
    for x in (thick, depth - thick):
        for y in (-width / 2 + thick, width / 2 - thick):
            frame.standing("box", x, y, 0, (thick, thick, height), material)


def chair(frame: Frame, palette: Palette, rng: Rng) -> Size:
    wood, seat = palette.some("wood"), palette.some("fabric")
    _legs(frame, 0.45, 0.45, 0.44, 0.045, wood)
    frame.standing("box", 0.23, 0, 0.44, (0.46, 0.46, 0.05), seat)
    frame.standing("box", 0.03, 0, 0.49, (0.04, 0.44, rng.uniform(0.35, 0.5)), wood)
    return 0.5, 0.5


def stool(frame: Frame, palette: Palette, rng: Rng) -> Size:
    height = rng.uniform(0.45, 0.75)
    frame.standing("cylinder", 0.2, 0, 0, (0.06, 0.06, height), palette.some("metal"))
    frame.standing("cylinder", 0.2, 0, 0, (0.34, 0.34, 0.03), palette.some("metal"))
    frame.standing("cylinder", 0.2, 0, height, (0.38, 0.38, 0.06), palette.some("fabric"))
    return 0.4, 0.4


def dining_table(frame: Frame, palette: Palette, rng: Rng) -> Size:
    depth, width = rng.uniform(0.8, 1.0), rng.uniform(1.2, 2.0)
    wood = palette.some("wood")
    _legs(frame, depth, width, 0.72, 0.07, wood)
    frame.standing("box", depth / 2, 0, 0.72, (depth, width, 0.04), wood)
    for y in np.arange(-width / 2 + 0.35, width / 2 - 0.2, 0.62):
        for x, yaw in ((-0.25, 0.0), (depth + 0.25, np.pi)):
            if rng.random() < 0.8:
                chair(frame.inner(x, y, 0, yaw + rng.normal(0, 0.1)), palette, rng)
    _tabletop(frame, depth / 2, 0.76, palette, rng)
    return depth + 0.3, width


def round_table(frame: Frame, palette: Palette, rng: Rng) -> Size:
    across = rng.uniform(0.7, 1.1)
    metal = palette.some("metal")
    frame.standing("cylinder", 0.6, 0, 0, (0.08, 0.08, 0.72), metal)
    frame.standing("cylinder", 0.6, 0, 0, (0.5, 0.5, 0.03), metal)
    frame.standing("cylinder", 0.6, 0, 0.72, (across, across, 0.03), palette.some("wood"))
    for angle in np.arange(rng.integers(2, 5)) * 2.1 + rng.uniform(0, 6):
        away = across / 2 + 0.35
        chair(frame.inner(0.6 + away * np.cos(angle), away * np.sin(angle), 0, angle + np.pi), palette, rng)
    _tabletop(frame, 0.6, 0.75, palette, rng)
    return 1.8, 1.6


def _tabletop(frame: Frame, x: float, z: float, palette: Palette, rng: Rng) -> None:
    if rng.random() < 0.6:
        frame.standing("taper", x, 0, z, (0.12, 0.12, 0.2), palette.some("pot"))
        frame.put("blob1", (x, 0, z + 0.3), (0.25, 0.25, 0.25), palette.some("plant"))
    if rng.random() < 0.6:
        frame.standing("cylinder", x + 0.1, 0.3, z, (0.22, 0.22, 0.05), palette.some("pillow"))


def desk(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width = rng.uniform(1.1, 1.8)
    _legs(frame, 0.7, width, 0.71, 0.05, palette.some("metal"))
    frame.standing("box", 0.35, 0, 0.71, (0.7, width, 0.03), palette.some("wood"))
    frame.standing("box", 0.35, width / 2 - 0.25, 0.05, (0.55, 0.4, 0.62), palette.some("panel"))
    frame.standing("box", 0.2, 0, 0.74, (0.15, 0.2, 0.12), palette.some("black"))
    frame.standing("box", 0.2, 0, 0.84, (0.03, 0.55, 0.33), palette.some("screen"))
    frame.standing("box", 0.5, 0, 0.74, (0.14, 0.42, 0.02), palette.some("black"))
    chair(frame.inner(1.15, rng.uniform(-0.2, 0.2), 0, np.pi + rng.normal(0, 0.3)), palette, rng)
    return 1.2, width


def sofa(frame: Frame, palette: Palette, rng: Rng) -> Size:
    depth, width = rng.uniform(0.85, 1.0), rng.choice([0.95, 1.7, 2.2])
    fabric, seat = palette.some("fabric"), rng.uniform(0.38, 0.45)
    frame.standing("box", depth / 2, 0, 0.08, (depth, width, seat - 0.2), fabric)
    frame.standing("box", 0.12, 0, 0.08, (0.24, width, 0.75), fabric)
    for side in (-1, 1):
        frame.standing("box", depth / 2, side * (width / 2 - 0.09), 0.08, (depth, 0.18, 0.52), fabric)
    places = max(1, round((width - 0.36) / 0.65))
    each = (width - 0.38) / places
    for y in (np.arange(places) - (places - 1) / 2) * each:
        frame.standing("box", depth / 2 + 0.1, y, seat - 0.12, (depth - 0.22, each - 0.02, 0.15), fabric)
        if rng.random() < 0.5:
            frame.put("ball", (0.36, y, seat + 0.2), (0.16, 0.4, 0.36), palette.some("pillow", 3))
    return depth, float(width)


def coffee_table(frame: Frame, palette: Palette, rng: Rng) -> Size:
    depth, width, height = rng.uniform(0.5, 0.7), rng.uniform(0.8, 1.2), rng.uniform(0.35, 0.48)
    _legs(frame, depth, width, height, 0.05, palette.some("metal"))
    frame.standing("box", depth / 2, 0, height, (depth, width, 0.04), palette.some("wood"))
    frame.standing("box", depth / 2, 0.2, height + 0.04, (0.2, 0.28, 0.04), palette.some("pillow"))
    return depth, width


def bed(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width = rng.uniform(1.0, 1.8)
    wood = palette.some("wood")
    frame.standing("box", 1.05, 0, 0.05, (2.1, width, 0.25), wood)
    frame.standing("box", 0.04, 0, 0, (0.08, width + 0.1, rng.uniform(0.8, 1.2)), wood)
    frame.standing("box", 1.08, 0, 0.3, (1.96, width - 0.06, 0.2), palette.some("pillow"))
    frame.standing("box", 1.4, 0, 0.33, (1.34, width + 0.04, 0.2), palette.some("fabric"))
    for y in (-width / 4, width / 4):
        frame.put("ball", (0.38, y, 0.55), (0.4, width * 0.4, 0.16), palette.some("pillow"))
    return 2.1, width


def wardrobe(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width, height = rng.uniform(0.9, 2.2), rng.uniform(1.8, 2.3)
    frame.standing("box", 0.3, 0, 0.04, (0.6, width, height), palette.some("panel"))
    frame.standing("box", 0.29, 0, 0, (0.52, width - 0.06, 0.04), palette.some("black"))
    if rng.random() < 0.4:
        frame.standing("box", 0.3, 0, height + 0.04, (0.4, 0.5, 0.25), palette.some("carton"))
    return 0.6, width


def sideboard(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width, height = rng.uniform(0.9, 1.8), rng.uniform(0.5, 0.95)
    frame.standing("box", 0.22, 0, 0.1, (0.44, width, height), palette.some("panel"))
    _legs(frame, 0.44, width, 0.1, 0.05, palette.some("metal"))
    if rng.random() < 0.5:
        frame.standing("box", 0.2, 0, height + 0.13, (0.06, width * 0.75, width * 0.42), palette.some("screen"))
    else:
        _tabletop(frame, 0.2, height + 0.1, palette, rng)
    return 0.45, width


def bookshelf(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width, levels = rng.uniform(0.8, 1.6), int(rng.integers(3, 7))
    wood, books = palette.some("wood"), palette.some("books")
    height = levels * 0.35
    for y in (-width / 2, width / 2):
        frame.standing("box", 0.15, y, 0, (0.3, 0.03, height), wood)
    frame.standing("box", 0.01, 0, 0, (0.02, width, height), wood)
    for level in range(levels + 1):
        frame.standing("box", 0.15, 0, max(level * 0.35 - 0.03, 0), (0.3, width, 0.03), wood)
        if level < levels and rng.random() < 0.85:
            fill = rng.uniform(0.4, 0.97) * (width - 0.05)
            y = (width - 0.04 - fill) / 2 * rng.choice([-1, 1])
            frame.standing("box", 0.13, y, level * 0.35, (0.2, fill, rng.uniform(0.2, 0.29)), books)
    return 0.32, width


def rack(frame: Frame, palette: Palette, rng: Rng) -> Size:
    """Warehouse shelving with cartons."""
    width, depth = rng.uniform(1.8, 2.8), 0.8
    metal = palette.some("pole")
    for level in range(int(rng.integers(2, 4))):
        z = 0.1 + 0.95 * level
        frame.standing("box", depth / 2, 0, z, (depth, width, 0.06), metal)
        y = -width / 2 + 0.1
        while y < width / 2 - 0.5:
            size = rng.uniform(0.3, 0.7)
            if rng.random() < 0.75:
                box = (rng.uniform(0.4, 0.7), size, rng.uniform(0.25, 0.75))
                frame.standing("box", depth / 2, y + size / 2, z + 0.06, box, palette.some("carton", 3))
            y += size + 0.05
    for x in (0.03, depth - 0.03):
        for y in (-width / 2, width / 2):
            frame.standing("box", x, y, 0, (0.06, 0.06, z + 0.9), metal)
    return depth, width


def kitchen(frame: Frame, palette: Palette, rng: Rng) -> Size:
    width = rng.uniform(1.8, 3.6)
    front = palette.some("panel")
    frame.standing("box", 0.3, 0, 0.1, (0.6, width, 0.78), front)
    frame.standing("box", 0.32, 0, 0.88, (0.64, width, 0.04), palette.some("counter"))
    frame.standing("box", 0.17, 0, 1.45, (0.34, width * 0.8, 0.7), front)
    frame.standing("box", 0.35, width / 4, 0.92, (0.5, 0.55, 0.015), palette.some("black"))
    if rng.random() < 0.7:
        frame.standing("box", 0.33, width / 2 + 0.35, 0, (0.66, 0.66, rng.uniform(1.5, 2.0)), palette.some("metal"))
    return 0.7, width + 1.3


def plant(frame: Frame, palette: Palette, rng: Rng) -> Size:
    height = rng.uniform(0.7, 1.9)
    frame.standing("taper", 0.25, 0, 0, (0.36, 0.36, 0.35), palette.some("pot"))
    frame.standing("cylinder", 0.25, 0, 0.3, (0.04, 0.04, height * 0.6), palette.some("wood"))
    for _ in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(-0.2, 0.2, 2)
        size = rng.uniform(0.25, 0.45)
        centre = (0.25 + x, y, height * rng.uniform(0.6, 1.0))
        frame.put(f"blob{rng.integers(1, 4)}", centre, (size, size, size * 0.8), palette.some("plant"))
    return 0.5, 0.5


def floor_lamp(frame: Frame, palette: Palette, rng: Rng) -> Size:
    height = rng.uniform(1.3, 1.7)
    metal = palette.some("metal")
    frame.standing("cylinder", 0.2, 0, 0, (0.3, 0.3, 0.03), metal)
    frame.standing("cylinder", 0.2, 0, 0, (0.03, 0.03, height), metal)
    frame.standing("taper", 0.2, 0, height, (0.4, 0.4, 0.28), palette.some("shade"))
    return 0.4, 0.4


def crates(frame: Frame, palette: Palette, rng: Rng) -> Size:
    for _ in range(int(rng.integers(2, 6))):
        size = tuple(rng.uniform(0.3, 0.6, 3))
        x, y = rng.uniform(0.3, 0.7), rng.uniform(-0.4, 0.4)
        z = rng.choice([0.0, 0.0, 0.4])
        frame.inner(x, y, z, rng.uniform(0, 1)).standing("box", 0, 0, 0, size, palette.some("carton", 3))
    return 1.0, 1.2


def column(frame: Frame, palette: Palette, rng: Rng) -> Size:
    across = rng.uniform(0.25, 0.5)
    template = str(rng.choice(["box", "cylinder"]))
    frame.standing(template, 0.3, 0, 0, (across, across, 6.0), palette.some("masonry"))
    return 0.6, 0.6


def person(frame: Frame, palette: Palette, rng: Rng) -> Size:
    """A standing figure of 1.55 to 1.9 m."""
    h = rng.uniform(1.55, 1.9)
    trousers, shirt, skin = palette.some("cloth", 4), palette.some("cloth", 4), palette.some("skin", 3)
    for side in (-1, 1):
        frame.standing("taper", 0.2, side * 0.09, 0, (0.13, 0.13, 0.48 * h), trousers)
        frame.standing("cylinder", 0.2, side * 0.24, 0.42 * h, (0.08, 0.08, 0.38 * h), shirt)
    frame.put("ball", (0.2, 0, 0.64 * h), (0.28, 0.44, 0.42 * h), shirt)
    frame.put("ball", (0.2, 0, 0.925 * h), (0.2, 0.17, 0.15 * h), skin)
    frame.put("ball", (0.19, 0, 0.95 * h), (0.21, 0.19, 0.12 * h), palette.some("black"))
    return 0.5, 0.6


Piece = Callable[[Frame, Palette, Rng], Size]
ROOMS: dict[str, dict[str, tuple[list[Piece], list[Piece]]]] = {  # look -> room -> (along walls, in the middle)
    "synthetic": {
        "living": ([sofa, sideboard, bookshelf, plant, floor_lamp, sofa, chair], [coffee_table, dining_table, sofa]),
        "bedroom": ([bed, wardrobe, sideboard, chair, plant, desk], [chair]),
        "kitchen": ([kitchen, wardrobe, sideboard, chair], [dining_table]),
        "study": ([desk, bookshelf, bookshelf, plant, sofa, floor_lamp], [desk, coffee_table]),
    },
    "field": {
        "office": ([desk, desk, bookshelf, wardrobe, plant, person, sideboard], [desk, desk, dining_table, person]),
        "cafe": ([kitchen, sofa, round_table, plant, stool, person], [round_table, round_table, stool, person, column]),
        "storage": ([rack, rack, rack, crates, desk], [rack, crates, column, person]),
        "lounge": ([sofa, bookshelf, plant, floor_lamp, kitchen, person], [coffee_table, round_table, sofa, column]),
        "room": ([bed, wardrobe, desk, bookshelf, stool, crates], [chair, coffee_table]),
    },
}
