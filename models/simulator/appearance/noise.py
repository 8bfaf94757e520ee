"""Random fields that procedural textures are made of: a hash of lattice cells and a pyramid of fractal noise."""

from functools import lru_cache

import numpy as np

TEXEL = 1 / 32  # side of a noise texel, in noise units
SIZE = 512  # texels a side of the finest level: the field repeats every 16 units


def cell_hash(x: np.ndarray, y: np.ndarray, seed: np.ndarray | int) -> np.ndarray:
    """Uniform [0, 1) float32 for integer lattice cells; independent for different seeds."""
    h = x.astype(np.int64).astype(np.uint32) * np.uint32(0x8DA6B343)
    h ^= y.astype(np.int64).astype(np.uint32) * np.uint32(0xD8163841)
    h ^= np.asarray(seed).astype(np.uint32) * np.uint32(0xCB1AB31F)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(12)
    h *= np.uint32(0x297A2D39)
    h ^= h >> np.uint32(15)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


@lru_cache(maxsize=1)
def _pyramid() -> tuple[np.ndarray, np.ndarray]:
    """All levels of a tileable 1/f field, flattened one after the other, and the offset of each level."""
    rng = np.random.Generator(np.random.PCG64(20251216))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    spectrum = np.fft.fft2(rng.standard_normal((SIZE, SIZE))) / np.maximum(frequency, 2 / SIZE)
    field = np.fft.ifft2(spectrum).real
    level = (0.5 + 0.18 * (field - field.mean()) / field.std()).clip(0, 1).astype(np.float32)
    levels = [level]
    while level.shape[0] > 1:
        level = level.reshape(level.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
        levels.append(level)
    offsets = np.cumsum([0] + [level.size for level in levels[:-1]])
    return np.concatenate([level.ravel() for level in levels]), offsets.astype(np.int64)


def fractal(x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Fractal noise around 0.5 within [0, 1], averaged over a pixel of side `footprint` (same units as x and y)."""
    table, offsets = _pyramid()
    top = len(offsets) - 1
    level = np.log2(np.maximum(footprint / TEXEL, 1.0)).astype(np.int64).clip(0, top)
    texel = TEXEL * (1 << level)
    return _bilinear(table, offsets[level], SIZE >> level, x / texel, y / texel)


def _bilinear(table: np.ndarray, start: np.ndarray, size: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values of tileable square levels, `size` texels a side, that begin at `start` of the table."""
    column, row = np.floor(x), np.floor(y)
    u, v = (x - column).astype(np.float32), (y - row).astype(np.float32)
    left, low = column.astype(np.int64) & (size - 1), row.astype(np.int64) & (size - 1)
    right, high = (left + 1) & (size - 1), (low + 1) & (size - 1)
    low, high = start + low * size, start + high * size
    a, b, c, d = table[low + left], table[low + right], table[high + left], table[high + right]
    lower = a + (b - a) * u
    return lower + (c + (d - c) * u - lower) * v
