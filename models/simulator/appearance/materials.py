"""Materials (a pattern, three colours, a cell size), and a table that evaluates them over many points at once."""

from dataclasses import dataclass

import numpy as np

from .patterns import PATTERNS, Patch

Color = tuple[float, float, float]
_PATTERN_INDEX = {pattern.__name__: index for index, pattern in enumerate(PATTERNS)}


@dataclass(frozen=True)
class Material:
    """Colours are sRGB in [0, 1]; `size_m` is the pattern's cell; `glow` is light that the surface gives off itself."""

    pattern: str
    colors: tuple[Color, Color, Color]
    size_m: tuple[float, float] = (1.0, 1.0)
    amount: float = 0.3
    gloss: float = 0.0
    glow: float = 0.0


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light by the usual power 2.2."""
    return np.power(srgb, np.float32(2.2))


class MaterialTable:
    """Evaluates materials by pattern, so that the cost is a few calls however many materials are in view."""

    def __init__(self, materials: list[Material]) -> None:
        self._pattern = np.array([_PATTERN_INDEX[m.pattern] for m in materials])
        self._colors = to_linear(np.array([m.colors for m in materials], np.float32))
        self._size_m = np.array([m.size_m for m in materials], np.float32)
        self._amount = np.array([m.amount for m in materials], np.float32)
        self._seed = np.arange(len(materials), dtype=np.float32)
        self.gloss = np.array([m.gloss for m in materials], np.float32)
        self.glow = np.array([m.glow for m in materials], np.float32)

    def albedo(self, material: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Linear albedo (N, 3) for material indices (N,), surface coordinates (N, 2) and pixel sizes (N,) in metres."""
        albedo = np.empty((len(material), 3), np.float32)
        pattern = self._pattern[material]
        for index in np.unique(pattern):
            points = np.flatnonzero(pattern == index)
            albedo[points] = self._shade(PATTERNS[index], material[points], uv[points], footprint[points])
        return albedo

    def _shade(self, pattern, material: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        size = self._size_m[material]
        patch = Patch(
            uv[:, 0], uv[:, 1], footprint, size[:, 0], size[:, 1], self._amount[material], self._seed[material]
        )
        second, third, tint = (np.broadcast_to(part, len(material))[:, None] for part in pattern(patch))
        first, other, accent = np.moveaxis(self._colors[material], 1, 0)
        color = first + (other - first) * np.minimum(second, 1)
        color = color + (accent - color) * np.minimum(third, 1)
        return (color * tint).clip(0, 1)
