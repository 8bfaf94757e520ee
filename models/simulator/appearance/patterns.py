"""Procedural textures: each maps surface coordinates to the shares of a material's second and third colour and a tint.

Every pattern is averaged over the pixel's footprint (line edges are widened, cell contrast fades), so that it does not
alias at a distance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .noise import cell_hash, fractal


@dataclass(frozen=True)
class Patch:
    """Surface points of one pattern, all (N,): coordinates, pixel footprint and cell sizes in metres; material seed."""

    s: np.ndarray
    t: np.ndarray
    footprint: np.ndarray
    size_s: np.ndarray
    size_t: np.ndarray
    amount: np.ndarray
    seed: np.ndarray

    def noise(self, scale_s: float, scale_t: float | None = None) -> np.ndarray:
        """Fractal noise whose longest waves are 16 / scale metres."""
        scale_t = scale_s if scale_t is None else scale_t
        shift = self.seed * 3.7
        return fractal(self.s * scale_s + shift, self.t * scale_t - shift, self.footprint * max(scale_s, scale_t))


Shades = tuple[np.ndarray, np.ndarray, np.ndarray]  # share of the second colour, of the third colour, tint
ZERO = np.zeros(1, np.float32)


def _lines(x: np.ndarray, width: np.ndarray | float, blur: np.ndarray) -> np.ndarray:
    """Coverage of lines of `width` around the integers of x, averaged over `blur`."""
    distance = np.abs(x - np.round(x))
    coverage = ((width / 2 - distance) / np.maximum(blur, 1e-4) + 0.5).clip(0, 1)
    far = (blur - 0.5).clip(0, 1)
    return coverage + (width - coverage) * far


def _fade(blur: np.ndarray) -> np.ndarray:
    """Contrast between cells that is left when a pixel covers `blur` cells."""
    return (1.5 - blur).clip(0, 1)


def _tint(value: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    return 1 + amount * (value - 0.5)


def plain(p: Patch) -> Shades:
    return ZERO, ZERO, _tint(p.noise(1.3), p.amount)


def mottled(p: Patch) -> Shades:
    share = ((p.noise(2.0) - 0.5) * 2.2 + 0.5).clip(0, 1)
    return share, ZERO, _tint(p.noise(11.0), p.amount)


def brick(p: Patch) -> Shades:
    row = p.t / p.size_t
    column = p.s / p.size_s + 0.5 * (np.floor(row).astype(np.int64) & 1)
    blur_s, blur_t = p.footprint / p.size_s, p.footprint / p.size_t
    mortar = np.maximum(_lines(row, 0.16, blur_t), _lines(column, 0.16 * p.size_t / p.size_s, blur_s))
    shade = cell_hash(np.floor(column), np.floor(row), p.seed)
    return mortar, ZERO, _tint(shade, p.amount * _fade(blur_t)) * _tint(p.noise(1.0), 0.5)


def stones(p: Patch) -> Shades:
    """Irregular blocks: bricks whose coordinates are bent."""
    bend = (p.noise(1.5) - 0.5) * 2.5
    bent = Patch(p.s + bend * p.size_s, p.t + bend * p.size_t, p.footprint, p.size_s, p.size_t, p.amount, p.seed)
    mortar, _, tint = brick(bent)
    return mortar, cell_hash(np.floor(bent.t / p.size_t), np.floor(bent.s / p.size_s), p.seed) * 0.6, tint


def planks(p: Patch) -> Shades:
    row = p.t / p.size_t
    shift = cell_hash(np.floor(row), ZERO, p.seed)
    column = p.s / p.size_s + shift
    blur = p.footprint / p.size_t
    gap = np.maximum(_lines(row, 0.04, blur), _lines(column, 0.006, p.footprint / p.size_s))
    board = cell_hash(np.floor(column), np.floor(row), p.seed + 1)
    grain = ((p.noise(1.5, 14.0) - 0.5) * 2.5 + 0.5).clip(0, 1)
    return grain * 0.8, gap, _tint(board, p.amount * _fade(blur))


def herringbone(p: Patch) -> Shades:
    s, t = (p.s + p.t) * 0.7071, (p.s - p.t) * 0.7071
    turned = (np.floor(p.s / (3 * p.size_s)).astype(np.int64) & 1).astype(bool)
    bent = Patch(np.where(turned, t, s), np.where(turned, s, t), p.footprint, p.size_s * 4, p.size_t, p.amount, p.seed)
    return planks(bent)


def tiles(p: Patch) -> Shades:
    row, column = p.t / p.size_t, p.s / p.size_s
    blur = p.footprint / np.minimum(p.size_s, p.size_t)
    grout = np.maximum(_lines(row, 0.03, blur), _lines(column, 0.03, blur))
    shade = cell_hash(np.floor(column), np.floor(row), p.seed)
    return grout, ZERO, _tint(shade, p.amount * _fade(blur)) * _tint(p.noise(3.0), 0.15)


def checker(p: Patch) -> Shades:
    row, column = p.t / p.size_t, p.s / p.size_s
    blur = p.footprint / np.minimum(p.size_s, p.size_t)
    odd = ((np.floor(row) + np.floor(column)).astype(np.int64) & 1).astype(np.float32)
    return 0.5 + (odd - 0.5) * _fade(blur), ZERO, _tint(p.noise(2.5), p.amount)


def stripes(p: Patch) -> Shades:
    blur = p.footprint / p.size_s
    thin = _lines(p.s / p.size_s + 0.5, 0.12, blur)
    return _lines(p.s / p.size_s, 0.45, blur), thin, _tint(p.noise(2.0), p.amount)


def corrugated(p: Patch) -> Shades:
    wave = np.sin(p.s / p.size_s * 2 * np.pi) * _fade(p.footprint / p.size_s)
    rust = ((p.noise(0.8) - 0.62) * 6).clip(0, 1)
    return rust, ZERO, 1 + 0.25 * wave * p.amount


def concrete(p: Patch) -> Shades:
    joint = np.maximum(
        _lines(p.t / p.size_t, 0.012, p.footprint / p.size_t), _lines(p.s / p.size_s, 0.012, p.footprint / p.size_s)
    )
    stain = ((p.noise(0.9, 0.35) - 0.45) * 2.5).clip(0, 1)
    return joint, stain, _tint(p.noise(9.0), p.amount)


def cells(p: Patch) -> Shades:
    """Speckles (terrazzo, gravel, weave), or books when the cells are narrow and tall: all three colours at random."""
    row, column = p.t / p.size_t, p.s / p.size_s
    fade = _fade(p.footprint / np.minimum(p.size_s, p.size_t))
    pick = cell_hash(np.floor(column), np.floor(row), p.seed)
    second, third = (pick > 0.45) & (pick < 0.75), pick >= 0.75
    shade = cell_hash(np.floor(column), np.floor(row), p.seed + 1)
    return 0.3 + (second - 0.3) * fade, 0.25 + (third - 0.25) * fade, _tint(shade, p.amount * fade)


def damask(p: Patch) -> Shades:
    """Repeated ornaments on wallpaper and fabric."""
    u, v = p.s / p.size_s, p.t / p.size_t
    wave = np.cos(2 * np.pi * u) * np.cos(2 * np.pi * v) + 0.5 * np.cos(6 * np.pi * u) * np.cos(4 * np.pi * v)
    share = 0.5 + (((wave - 0.3) * 4).clip(-0.5, 0.5)) * _fade(p.footprint / p.size_s * 2)
    return share, ZERO, _tint(p.noise(2.0), p.amount)


def foliage(p: Patch) -> Shades:
    clump, leaf = p.noise(1.2), p.noise(7.0)
    share = ((clump - 0.5) * 2.5 + 0.5).clip(0, 1)
    return share, ((leaf - 0.62) * 4).clip(0, 1) * 0.6, (1 + p.amount * 3 * (leaf - 0.5)).clip(0.25, 2)


def ground(p: Patch) -> Shades:
    """Grass, soil, sand, snow: large patches, clumps and fine grain."""
    patch = ((p.noise(0.22) - 0.5) * 3 + 0.5).clip(0, 1)
    bare = ((p.noise(0.5) - 0.66) * 6).clip(0, 1)
    return patch, bare, (1 + p.amount * 2.2 * (p.noise(5.0) - 0.5)).clip(0.3, 2)


def asphalt(p: Patch) -> Shades:
    mend = ((p.noise(0.3) - 0.6) * 12).clip(0, 0.5)
    crack = (1 - np.abs(p.noise(0.9) - 0.5) * 60).clip(0, 1) * _fade(p.footprint * 8)
    return mend, crack * 0.5, _tint(p.noise(12.0), p.amount)


def panel(p: Patch) -> Shades:
    """Doors and drawers: a groove around each cell, and a handle."""
    u, v = p.s / p.size_s, p.t / p.size_t
    blur_s, blur_t = p.footprint / p.size_s, p.footprint / p.size_t
    groove = np.maximum(_lines(u, 0.025, blur_s), _lines(v, 0.025, blur_t))
    handle = _lines(u + 0.12, 0.04, blur_s) * _lines(v + 0.5, 0.14, blur_t)
    return groove, handle, _tint(p.noise(1.2, 5.0), p.amount)


def picture(p: Patch) -> Shades:
    """A painting that fills the whole face: sizes are those of the face."""
    u, v = p.s / p.size_s, p.t / p.size_t
    horizon = ((v - 0.35 - 0.5 * (p.noise(4.0) - 0.5)) * 12).clip(0, 1)
    spot = ((p.noise(7.0) - 0.58) * 9).clip(0, 1)
    edge = (np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.06).astype(np.float32)
    return horizon * (1 - edge), spot * (1 - horizon) * (1 - edge), (1 + 0.8 * (u - 0.5)) * (1 - 0.7 * edge)


def facade(p: Patch) -> Shades:
    """Rows of windows, shops at street level: the second colour is frames and sills, the third is glass."""
    u, v = p.s / p.size_s, p.t / p.size_t
    column, floor = np.floor(u), np.floor(v)
    shop = floor == 0
    blur_s, blur_t = p.footprint / p.size_s, p.footprint / p.size_t
    wide = np.where(shop, 0.82, p.amount)
    tall = np.where(shop, 0.74, 0.3 + 0.45 * p.amount)
    glass = _lines(u + 0.5, wide, blur_s) * _lines(v + 0.5, tall, blur_t)
    frame = _lines(u + 0.5, wide + 0.1, blur_s) * _lines(v + 0.5, tall + 0.12, blur_t)
    bars = np.maximum(_lines(u, 0.05, blur_s), _lines(v + 0.45, 0.04, blur_t)) * glass
    glass = np.maximum(glass - bars, 0)
    lit = cell_hash(column, floor, p.seed)
    fade = _fade(blur_s)
    tint = 1 + glass * fade * (np.where(lit > 0.8, 1.6, lit) - 0.6)
    ledge = _lines(v, 0.035, blur_t) * (1 - frame)
    return (frame - glass).clip(0, 1) + ledge, glass, tint * _tint(p.noise(0.7), 0.3 * (1 - glass))


def glassfront(p: Patch) -> Shades:
    """Curtain walls of offices."""
    u, v = p.s / p.size_s, p.t / p.size_t
    blur_s, blur_t = p.footprint / p.size_s, p.footprint / p.size_t
    frame = np.maximum(_lines(u, 0.07, blur_s), _lines(v, 0.22, blur_t))
    shade = cell_hash(np.floor(u), np.floor(v), p.seed)
    return frame, (1 - frame) * (0.25 + 0.5 * p.noise(0.15)), _tint(shade, 0.5 * _fade(blur_s))


PATTERNS: tuple[Callable[[Patch], Shades], ...] = (
    plain, mottled, brick, stones, planks, herringbone, tiles, checker, stripes, corrugated, concrete, cells, damask,
    foliage, ground, asphalt, panel, picture, facade, glassfront,
)  # fmt: skip
