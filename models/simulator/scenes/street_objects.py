"""Things that stand outdoors. Each is built in a local frame: x to the front, z up, the origin on the ground."""

import numpy as np

from ..appearance.palette import Palette
from ..geometry.mesh import Frame, Vector

Rng = np.random.Generator


def building(frame: Frame, palette: Palette, rng: Rng, width: float, depth: float, height: float) -> None:
    """Its street front lies at x = 0 and the body behind it; y centred."""
    facade, roof = palette.new("facade"), palette.some("roof", 3)
    side = facade if rng.random() < 0.6 else palette.some("masonry", 3)
    frame.standing("box", -depth / 2, 0, 0, (depth, width, height), (facade, side, side, side, roof, roof))
    top = rng.random()
    if top < 0.4 and height < 22:
        rise = rng.uniform(0.25, 0.5) * depth
        gable = (roof, roof, side, side, roof, roof)
        frame.inner(-depth / 2, 0, height, np.pi / 2).standing(
            "gable", 0, 0, 0, (width + 0.6, depth + 0.8, rise), gable
        )
        for _ in range(int(rng.integers(0, 3))):
            y = rng.uniform(-width / 2 + 1, width / 2 - 1)
            frame.standing(
                "box", -depth * 0.35, y, height + rise * 0.3, (0.6, 0.9, rise * 0.7), palette.some("masonry", 3)
            )
    else:
        trim = palette.some("trim")
        frame.standing("box", -depth / 2 + 0.25, 0, height, (depth + 0.5, width + 0.02, 0.5), trim)
        if top > 0.7:
            frame.standing("box", -depth / 2, rng.uniform(-2, 2), height + 0.4, (3.5, 3.5, 2.6), side)
    _front(frame, palette, rng, width, height)


def _front(frame: Frame, palette: Palette, rng: Rng, width: float, height: float) -> None:
    """Relief on the street side: cornice, door, balconies or bays, awnings."""
    trim = palette.some("trim")
    frame.standing("box", 0.1, 0, 3.3, (0.25, width, 0.25), trim)
    frame.standing("box", 0.03, rng.uniform(-0.3, 0.3) * width, 0, (0.1, 1.3, 2.4), palette.some("door"))
    if rng.random() < 0.45:
        metal, columns = palette.some("pole"), np.arange(-width / 2 + 2.2, width / 2 - 1.8, rng.uniform(4, 7))
        for z in np.arange(4.0, height - 2.5, 3.1):
            for y in columns:
                frame.standing("box", 0.5, y, z, (1.0, 2.2, 0.15), trim)
                frame.standing("box", 0.97, y, z + 0.15, (0.05, 2.2, 0.85), metal)
    if rng.random() < 0.5:
        awning = palette.some("awning", 3)
        frame.standing(
            "box", 0.7, rng.uniform(-0.2, 0.2) * width, 2.6, (1.4, width * rng.uniform(0.3, 0.6), 0.12), awning
        )
    if rng.random() < 0.5:
        sign = palette.new("sign", (1.0, 0.8))
        frame.standing("box", 0.6, rng.uniform(-0.4, 0.4) * width, 3.0, (1.0, 0.08, 0.8), sign)


def house(frame: Frame, palette: Palette, rng: Rng) -> None:
    """A detached house with a pitched roof; its front faces x."""
    width, depth, height = rng.uniform(7, 12), rng.uniform(7, 10), rng.uniform(3.0, 6.5)
    wall, roof = palette.new("facade"), palette.new("roof")
    frame.standing("box", -depth / 2, 0, 0, (depth, width, height), wall)
    rise = rng.uniform(2, 4)
    gable = (roof, roof, wall, wall, roof, roof)
    frame.inner(-depth / 2, 0, height, np.pi / 2).standing("gable", 0, 0, 0, (width + 0.6, depth + 1.0, rise), gable)
    frame.standing("box", -depth * 0.3, width * 0.25, height, (0.7, 0.7, rise), palette.some("masonry"))
    frame.standing("box", 0.03, -width * 0.2, 0, (0.1, 1.1, 2.1), palette.some("door"))
    if rng.random() < 0.6:
        side = rng.choice([-1, 1]) * (width / 2 + 1.8)
        frame.standing("box", -depth / 2, side, 0, (6.0, 3.6, 2.7), (palette.some("door"), *(wall,) * 5))


def tree(frame: Frame, palette: Palette, rng: Rng, height: float | None = None) -> None:
    """A broad-leaved tree, or now and then a conifer or a palm-like one."""
    tall = float(height or rng.uniform(4, 12))
    trunk, leaf = palette.some("trunk"), palette.some("leaf", 3)
    thick = 0.03 * tall + 0.08
    kind = rng.random()
    if kind < 0.2:
        frame.standing("taper", 0, 0, -0.3, (thick, thick, tall * 0.4), trunk)
        for level in np.linspace(0.15, 0.75, 5):
            across = tall * 0.42 * (1.05 - level)
            frame.standing("cone", 0, 0, tall * level, (across, across, tall * 0.32), leaf)
        return
    stem = tall * rng.uniform(0.35, 0.55)
    frame.standing("taper", 0, 0, -0.3, (thick, thick, stem + 0.6), trunk)
    spread = tall * rng.uniform(0.22, 0.34)
    middle = (stem + tall) / 2
    far = np.hypot(*frame.origin[:2]) > 45
    for _ in range(3 if far else int(rng.integers(6, 10))):
        angle, up = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
        away = 0.75 * spread * np.sqrt((1 - up * up) * rng.uniform(0.3, 1))
        size = spread * rng.uniform(0.9, 1.45) * (1.3 if far else 1)
        centre = (away * np.cos(angle), away * np.sin(angle), middle + up * (tall - stem) * 0.32)
        frame.put(f"blob{rng.integers(1, 4)}", centre, (size, size, size * rng.uniform(0.65, 0.95)), leaf, angle)


def bare_tree(frame: Frame, palette: Palette, rng: Rng) -> None:
    """A trunk with a few slanted limbs."""
    trunk, tall = palette.some("trunk"), rng.uniform(3, 8)
    frame.standing("taper", 0, 0, -0.2, (0.3, 0.3, tall), trunk)
    for _ in range(8):
        angle, z = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.95) * tall
        beam(frame, (0.0, 0.0, z), (1.6 * np.cos(angle), 1.6 * np.sin(angle), z + rng.uniform(0.8, 2.0)), 0.08, trunk)


def beam(frame: Frame, start: Vector, end: Vector, thick: float, material: int) -> None:
    """A square bar between two points of the frame: limbs, wires, rails."""
    a, b = np.array(frame.point(start)), np.array(frame.point(end))
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.cross((0, 0, 1) if abs(axis[2]) < 0.9 else (1, 0, 0), axis)
    side /= np.linalg.norm(side)
    rotation = np.column_stack([axis, side, np.cross(axis, side)])
    size = (float(np.linalg.norm(b - a)), thick, thick)
    frame.builder.put("box", tuple((a + b) / 2), size, material, rotation=rotation)


def bush(frame: Frame, palette: Palette, rng: Rng) -> None:
    leaf = palette.some("leaf", 3)
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.5, 1.5)
        x, y = rng.uniform(-0.5, 0.5, 2)
        frame.put(f"blob{rng.integers(1, 4)}", (x, y, size * 0.3), (size, size, size), leaf)


def rock(frame: Frame, palette: Palette, rng: Rng) -> None:
    size = rng.uniform(0.3, 2.2)
    shape = (size, size * rng.uniform(0.6, 1), size * rng.uniform(0.4, 0.8))
    frame.put(f"blob{rng.integers(1, 4)}", (0, 0, size * 0.12), shape, palette.some("rock"), rng.uniform(0, 6))


def car(frame: Frame, palette: Palette, rng: Rng) -> None:
    """About 4.3 m along x; some are vans."""
    paint, glass, black = palette.new("car"), palette.some("glass"), palette.some("black")
    van = rng.random() < 0.25
    frame.standing("box", 0, 0, 0.28, (4.3, 1.75, 0.62 if not van else 0.9), paint)
    z = 0.9 if not van else 1.18
    if van:
        frame.standing("box", -0.3, 0, z, (3.7, 1.68, 0.8), (glass, paint, glass, glass, paint, paint))
    else:
        frame.standing("box", -0.25, 0, z, (2.1, 1.55, 0.48), (glass, glass, glass, glass, paint, paint))
        frame.standing("box", -0.25, 0, z + 0.46, (1.8, 1.5, 0.07), paint)
    for x in (-1.35, 1.35):
        for y in (-0.8, 0.8):
            frame.builder.put("ball", frame.point((x, y, 0.32)), (0.66, 0.2, 0.66), black, yaw=frame.yaw)
    lights = palette.some("trim")
    for y in (-0.6, 0.6):
        frame.standing("box", 2.14, y, 0.55, (0.06, 0.35, 0.15), lights)


def street_lamp(frame: Frame, palette: Palette, rng: Rng) -> None:
    """Its arm reaches along x."""
    metal, tall = palette.some("pole"), rng.uniform(4.5, 8)
    frame.standing("taper", 0, 0, 0, (0.18, 0.18, tall), metal)
    frame.standing("box", 0.6, 0, tall - 0.1, (1.4, 0.08, 0.08), metal)
    frame.standing("box", 1.2, 0, tall - 0.22, (0.6, 0.22, 0.12), palette.some("trim"))


def utility_pole(frame: Frame, palette: Palette, rng: Rng, span_m: float) -> None:
    """With wires along y to the next one, `span_m` away."""
    pole, black = palette.some("trunk"), palette.some("black")
    frame.standing("taper", 0, 0, 0, (0.28, 0.28, 8.5), pole)
    frame.standing("box", 0, 0, 7.7, (1.8, 0.1, 0.12), pole)
    for x in (-0.8, 0.0, 0.8):
        sag = rng.uniform(0.3, 0.7)
        beam(frame, (x, 0, 7.9), (x, span_m / 2, 7.9 - sag), 0.035, black)
        beam(frame, (x, span_m / 2, 7.9 - sag), (x, span_m, 7.9), 0.035, black)


def bench(frame: Frame, palette: Palette, rng: Rng) -> None:
    wood, metal = palette.some("fence"), palette.some("pole")
    frame.standing("box", 0.25, 0, 0.42, (0.42, 1.6, 0.05), wood)
    frame.standing("box", 0.03, 0, 0.6, (0.05, 1.6, 0.3), wood)
    for y in (-0.6, 0.6):
        frame.standing("box", 0.22, y, 0, (0.4, 0.06, 0.42), metal)


def bollard(frame: Frame, palette: Palette, rng: Rng) -> None:
    frame.standing("cylinder", 0, 0, 0, (0.16, 0.16, rng.uniform(0.7, 1.0)), palette.some("pole"))


def bin_(frame: Frame, palette: Palette, rng: Rng) -> None:
    frame.standing("taper", 0, 0, 0, (0.5, 0.5, 0.9), palette.some("awning", 3))


def sign_post(frame: Frame, palette: Palette, rng: Rng) -> None:
    frame.standing("cylinder", 0, 0, 0, (0.07, 0.07, 2.6), palette.some("metal"))
    frame.standing("box", 0.05, 0, 2.0, (0.03, 0.6, 0.6), palette.new("sign", (0.6, 0.6)))


def kiosk(frame: Frame, palette: Palette, rng: Rng) -> None:
    """A market stall or bus shelter: posts, a roof, a counter."""
    width, metal = rng.uniform(2.5, 4.5), palette.some("pole")
    for x in (0.1, 1.9):
        for y in (-width / 2, width / 2):
            frame.standing("box", x, y, 0, (0.08, 0.08, 2.4), metal)
    roof = palette.some("awning", 3)
    frame.inner(1.0, 0, 2.4, np.pi / 2).standing("gable", 0, 0, 0, (width + 0.4, 2.5, 0.6), roof)
    frame.standing("box", 1.5, 0, 0, (0.7, width - 0.3, 0.9), palette.some("fence"))


def parasol(frame: Frame, palette: Palette, rng: Rng) -> None:
    frame.standing("cylinder", 0, 0, 0, (0.06, 0.06, 2.3), palette.some("metal"))
    frame.standing("cone", 0, 0, 2.0, (2.6, 2.6, 0.6), palette.some("awning", 3))
    frame.standing("cylinder", 0.0, 0, 0.7, (0.8, 0.8, 0.04), palette.some("wood"))


def fountain(frame: Frame, palette: Palette, rng: Rng) -> None:
    stone = palette.some("masonry")
    frame.standing("cylinder", 0, 0, 0, (6, 6, 0.6), stone)
    frame.standing("cylinder", 0, 0, 0.55, (5.4, 5.4, 0.08), palette.some("water"))
    frame.standing("taper", 0, 0, 0, (1.2, 1.2, 2.2), stone)
    frame.standing("cylinder", 0, 0, 2.2, (2.2, 2.2, 0.25), stone)
    frame.put("ball", (0, 0, 2.9), (0.9, 0.9, 1.2), stone)


def fence_line(frame: Frame, palette: Palette, rng: Rng, length: float) -> None:
    """Along y from the origin: boards on posts, a hedge, or rails."""
    kind, material = rng.random(), palette.some("fence")
    if kind < 0.35:
        height = rng.uniform(0.9, 1.8)
        frame.standing("box", 0, length / 2, 0, (0.8, length, height), palette.some("leaf", 3))
        return
    height = rng.uniform(0.9, 1.7)
    for y in np.arange(0, length + 0.1, 2.0):
        frame.standing("box", 0, y, 0, (0.1, 0.1, height + 0.1), material)
    boards = ((0.05, height),) if kind < 0.65 else tuple((z, 0.09) for z in np.arange(0.25, height, 0.35))
    for z, tall in boards:
        frame.standing("box", 0, length / 2, z, (0.04, length, tall), material)
