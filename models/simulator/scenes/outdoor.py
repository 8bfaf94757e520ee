"""Outdoor scenes: streets, squares, suburbs, parks and trails, each on its own ground with a backdrop."""

from collections.abc import Callable, Sequence

import numpy as np

from ..appearance.palette import Palette
from ..geometry.mesh import Frame, MeshBuilder
from ..scenes import street_objects as things
from .furniture import person
from .world import Region

Rng = np.random.Generator
Thing = Callable[[Frame, Palette, Rng], object]
Height = Callable[..., np.ndarray]  # of x and y, arrays of one shape
Layout = Callable[[Frame, Palette, Rng], list[Region]]
GROUND_M = 1200.0


def street(frame: Frame, palette: Palette, rng: Rng) -> list[Region]:
    """A street along x with a crossing, facades on both sides, parked cars, trees and lamps."""
    road, walk = rng.uniform(6, 11), rng.uniform(2.2, 5)
    flat(frame, palette.new("asphalt"))
    crossing = rng.uniform(-40, 40)
    for side in (-1, 1):
        row = frame.inner(0, side * (road / 2 + walk), 0, -side * np.pi / 2)
        facades(row, palette, rng, -side * crossing, road + 2 * walk)
        pavement(frame, palette, side * (road + walk) / 2, walk, crossing, road)
        kerb_things(frame, palette, rng, side, road / 2, walk, crossing)
    for x in np.arange(-150, 150, 6.0):
        if abs(x - crossing) > road:
            frame.standing("box", x, 0, 0, (2.5, 0.14, 0.006), palette.some("marking", 1))
    for x in np.arange(-road / 2, road / 2, 1.0):
        frame.standing("box", crossing - road / 2 - 3, x + 0.5, 0, (2.5, 0.5, 0.006), palette.some("marking", 1))
    backdrop(frame, palette, rng, 190)
    return [
        Region((-45, -road / 2), (45, road / 2)),
        Region((-45, road / 2), (45, road / 2 + walk - 0.5)),
        Region((-45, -road / 2 - walk + 0.5), (45, -road / 2)),
    ]


def facades(row: Frame, palette: Palette, rng: Rng, crossing: float, gap: float) -> None:
    """Buildings side by side along y of the frame, from -160 to 160 m, with a gap for the crossing street."""
    y, usual = -160.0, rng.uniform(7, 24)
    while y < 160:
        width = rng.uniform(7, 24)
        if y + width > crossing - gap / 2 and y < crossing + gap / 2:
            y = crossing + gap / 2
            continue
        height = float(np.clip(usual * rng.uniform(0.6, 1.5), 6, 40))
        things.building(
            row.inner(rng.uniform(-1.5, 0) * 0.5, y + width / 2), palette, rng, width, rng.uniform(9, 14), height
        )
        y += width + (rng.uniform(1.5, 6) if rng.random() < 0.15 else 0)


def pavement(frame: Frame, palette: Palette, y: float, walk: float, crossing: float, road: float) -> None:
    material = palette.some("pavement", 1)
    for low, high in ((-160, crossing - road / 2), (crossing + road / 2, 160)):
        frame.builder.put("box", ((low + high) / 2, y, 0.0), (high - low, walk, 0.26), material)


def kerb_things(frame: Frame, palette: Palette, rng: Rng, side: int, kerb: float, walk: float, crossing: float) -> None:
    """What stands along a kerb: lamps and trees in rows, cars, and small things and people on the pavement."""
    inward = -side * np.pi / 2
    trees, spacing = rng.random() < 0.6, rng.uniform(7, 14)
    for index, x in enumerate(np.arange(-120, 120, spacing) + rng.uniform(0, spacing)):
        if abs(x - crossing) < kerb + 5:
            continue
        spot = frame.inner(x, side * (kerb + 0.6), 0.13, inward)
        if trees and index % 3:
            things.tree(spot, palette, rng, rng.uniform(5, 9))
        else:
            things.street_lamp(spot, palette, rng)
        if rng.random() < 0.55:
            car = frame.inner(x + spacing / 2, side * (kerb - 1.1), 0, rng.choice([0, np.pi]))
            things.car(car, palette, rng)
    for x in rng.uniform(-60, 60, int(rng.integers(10, 24))):
        thing = (things.bench, things.bollard, things.bin_, things.sign_post, person, person)[rng.integers(6)]
        place = frame.inner(x, side * (kerb + rng.uniform(0.4, walk - 0.4)), 0.13, inward + rng.normal(0, 0.4))
        if abs(x - crossing) > kerb + 4:
            thing(place, palette, rng)


def square(frame: Frame, palette: Palette, rng: Rng) -> list[Region]:
    """A paved square closed by facades, with a fountain or trees, stalls and people."""
    half_x, half_y = rng.uniform(14, 34), rng.uniform(12, 26)
    flat(frame, palette.new("plaza"))
    for yaw, away, half in (
        (0, -half_x, half_y),
        (np.pi, half_x, half_y),
        (np.pi / 2, -half_y, half_x),
        (-np.pi / 2, half_y, half_x),
    ):
        x, y = (away, 0) if yaw in (0, np.pi) else (0, away)
        row, at = frame.inner(x, y, 0, yaw), -half - 6
        while at < half:
            width = rng.uniform(7, 20)
            if rng.random() < 0.85:
                things.building(
                    row.inner(0, at + width / 2), palette, rng, width, rng.uniform(9, 14), rng.uniform(7, 26)
                )
            at += width
    if rng.random() < 0.6:
        things.fountain(frame.inner(rng.uniform(-4, 4), rng.uniform(-4, 4)), palette, rng)
    kinds = (
        things.bench,
        things.kiosk,
        things.parasol,
        things.parasol,
        things.tree,
        things.bollard,
        things.bin_,
        things.car,
        person,
        person,
    )
    scatter(frame, rng, palette, kinds, int(rng.integers(22, 48)), half_x - 3, half_y - 3)
    for x in np.arange(-half_x + 6, half_x - 4, 11):
        things.street_lamp(frame.inner(x, half_y - 5, 0, -np.pi / 2), palette, rng)
    backdrop(frame, palette, rng, 120)
    return [Region((-half_x + 2.5, -half_y + 2.5), (half_x - 2.5, half_y - 2.5))]


def suburb(frame: Frame, palette: Palette, rng: Rng) -> list[Region]:
    """Detached houses behind lawns and fences along a lane, with utility poles."""
    road = rng.uniform(5, 7)
    flat(frame, palette.new("grass"))
    frame.standing("box", 0, 0, 0, (320, road, 0.02), palette.new("asphalt"))
    for side in (-1, 1):
        facing = -side * np.pi / 2
        frame.standing("box", 0, side * (road / 2 + 0.9), 0, (320, 1.6, 0.06), palette.some("pavement", 1))
        for x in np.arange(-130, 130, rng.uniform(15, 22)):
            back = rng.uniform(6, 10)
            plot = frame.inner(x, side * (road / 2 + 2 + back), 0, facing + rng.normal(0, 0.08))
            things.house(plot, palette, rng)
            things.fence_line(
                frame.inner(x, side * (road / 2 + 2), 0, facing).inner(0, -6), palette, rng, rng.uniform(5, 9)
            )
            things.tree(plot.inner(rng.uniform(1.5, back - 1), rng.uniform(4, 7)), palette, rng)
            if rng.random() < 0.6:
                things.bush(plot.inner(1.2, rng.uniform(-3, 3)), palette, rng)
            if rng.random() < 0.6:
                things.car(plot.inner(back * 0.5, -rng.uniform(4, 6)), palette, rng)
    for x in np.arange(-120, 120, 30.0):
        things.utility_pole(frame.inner(x, road / 2 + 0.4, 0, -np.pi / 2), palette, rng, 30.0)
    scatter(frame, rng, palette, (person, things.bin_, things.car), 6, 40, road / 2)
    hills(frame, palette, rng, 150)
    return [Region((-60, -road / 2 - 1.5), (60, road / 2 + 1.5))]


def park(frame: Frame, palette: Palette, rng: Rng) -> list[Region]:
    """Rolling grass with groups of trees, a path, benches, a pond; houses at the rim."""
    height = terrain(frame, palette, rng, rng.uniform(0.2, 1.0), rng.uniform(4, 25))
    path = palette.new("path")
    bend = rng.uniform(-0.02, 0.02)
    for x in np.arange(-60, 60, 2.0):
        y = bend * x * x / 2
        frame.builder.put(
            "box", (x, y, float(height(x, y)) - 0.02), (2.6, 2.2, 0.12), path, yaw=float(np.arctan(bend * x))
        )
    kinds = (things.tree, things.tree, things.bush, things.bush, things.bench, things.rock, person)
    scatter(frame, rng, palette, kinds, int(rng.integers(60, 120)), 32, 32, height)
    scatter(frame, rng, palette, (things.tree,), 40, 110, 110, height, hole=40)
    for angle in rng.uniform(0, 2 * np.pi, 8):
        x, y = 100 * np.cos(angle), 100 * np.sin(angle)
        things.building(
            frame.inner(x, y, float(height(x, y)) - 1, angle + np.pi), palette, rng, 16, 12, rng.uniform(8, 25)
        )
    return [Region((-25, -25), (25, 25), height)]


def trail(frame: Frame, palette: Palette, rng: Rng) -> list[Region]:
    """Open country: a forest edge, rocks, fences, mountains on the horizon."""
    height = terrain(frame, palette, rng, rng.uniform(1.0, 2.5), rng.uniform(30, 120))
    dense = int(rng.integers(10, 120))
    kinds = (things.tree, things.tree, things.tree, things.bare_tree, things.rock, things.bush)
    scatter(frame, rng, palette, kinds, dense, 50, 50, height)
    scatter(frame, rng, palette, (things.rock, things.bush, things.rock), 40, 30, 30, height)
    for angle in rng.uniform(0, 2 * np.pi, 4):
        x, y = 14 * np.cos(angle), 14 * np.sin(angle)
        things.fence_line(frame.inner(x, y, float(height(x, y)) - 0.3, angle), palette, rng, 24)
    if rng.random() < 0.6:
        things.house(frame.inner(20, 12, float(height(16, 12)) - 0.5, np.pi), palette, rng)
    return [Region((-25, -25), (25, 25), height)]


def flat(frame: Frame, material: int) -> None:
    frame.builder.put("box", (0, 0, -0.5), (GROUND_M, GROUND_M, 1.0), material)


def scatter(
    frame: Frame,
    rng: Rng,
    palette: Palette,
    kinds: Sequence[Thing],
    count: int,
    half_x: float,
    half_y: float,
    height: Height | None = None,
    hole: float = 2.5,
) -> None:
    """Puts things at random, none within `hole` metres of the middle."""
    for _ in range(count):
        x, y = rng.uniform(-half_x, half_x), rng.uniform(-half_y, half_y)
        z = float(height(x, y)) if height else 0.0
        if np.hypot(x, y) > hole:
            kinds[int(rng.integers(len(kinds)))](frame.inner(x, y, z, rng.uniform(0, 2 * np.pi)), palette, rng)


def terrain(frame: Frame, palette: Palette, rng: Rng, bumps_m: float, far_m: float) -> Height:
    """A ground of sine waves that rises to hills far away; returns its height function of (x, y)."""
    waves = rng.normal(0, 1, (8, 2)) * np.array([0.05] * 4 + [0.16] * 4)[:, None]
    phases, size = rng.uniform(0, 6.28, 8), np.array([1.0] * 4 + [0.25] * 4)
    ridges, ridge_phase = rng.integers(2, 9, 5), rng.uniform(0, 6.28, 5)

    def height(x, y):
        x, y = np.asarray(x, float), np.asarray(y, float)
        low = (
            (np.sin(x[..., None] * waves[:, 0] + y[..., None] * waves[:, 1] + phases) * size).sum(axis=-1) * bumps_m / 2
        )
        away, angle = np.hypot(x, y), np.arctan2(y, x)
        ridge = 0.6 + 0.4 * np.sin(angle[..., None] * ridges + ridge_phase).mean(axis=-1) * 2
        return low + far_m * ridge * ((away - 90) / 300).clip(0, 1) ** 1.5

    _polar_sheet(frame, palette.new("grass"), height)
    return height


def hills(frame: Frame, palette: Palette, rng: Rng, start: float) -> None:
    """Hills beyond flat ground."""
    ridges, phase, tall = rng.integers(2, 11, 6), rng.uniform(0, 6.28, 6), rng.uniform(5, 60)

    def height(x, y):
        ridge = 0.5 + np.sin(np.arctan2(y, x)[..., None] * ridges + phase).mean(axis=-1)
        return -1.0 + tall * ridge.clip(0) * ((np.hypot(x, y) - start) / 200).clip(0, 1)

    _polar_sheet(frame, palette.some("leaf", 3), height)


def _polar_sheet(frame: Frame, material: int, height: Height) -> None:
    """A disc of radius 600 m whose mesh is fine near the middle."""
    radii, sectors = np.geomspace(1.5, 600, 34), 60
    angle = np.linspace(0, 2 * np.pi, sectors, endpoint=False)
    x, y = (radii[:, None] * np.cos(angle)).ravel(), (radii[:, None] * np.sin(angle)).ravel()
    x, y = np.append(x, 0.0), np.append(y, 0.0)
    i, j = np.mgrid[0 : len(radii) - 1, 0:sectors].reshape(2, -1)
    a, b = i * sectors + j, i * sectors + (j + 1) % sectors
    ring = np.concatenate([np.c_[a, a + sectors, b + sectors], np.c_[a, b + sectors, b]])
    k = np.arange(sectors)
    fan = np.c_[k, (k + 1) % sectors, np.full(sectors, len(x) - 1)]
    frame.builder.surface(
        np.column_stack([x, y, height(x, y)]), np.concatenate([ring, fan]), np.column_stack([x, y]), material
    )


def backdrop(frame: Frame, palette: Palette, rng: Rng, away: float) -> None:
    """A ring of distant buildings that ends every view along a street."""
    for angle in np.arange(0, 2 * np.pi, 0.16):
        r = away * rng.uniform(1.0, 1.5)
        place = frame.inner(r * np.cos(angle), r * np.sin(angle), 0, angle)
        tall = rng.uniform(8, 45)
        place.standing("box", 0, 0, 0, (15, rng.uniform(15, 40), tall), palette.some("facade", 4))


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "synthetic": (street, street, park),
    "field": (square, suburb, trail, street),
}


def build(look: str, builder: MeshBuilder, palette: Palette, rng: Rng) -> tuple[str, list[Region]]:
    """Builds one layout of the look; returns its name and where a camera may stand."""
    layouts = LAYOUTS[look]
    layout = layouts[rng.integers(len(layouts))]
    return layout.__name__, layout(Frame(builder), palette, rng)
