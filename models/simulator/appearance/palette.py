"""Draws the materials of a scene: colours of their families, cells and strengths in their ranges."""

import colorsys
from dataclasses import dataclass, field

import numpy as np

from .materials import Color, Material
from .roles import LOOKS

# family: hue range, saturation range, value range (HSV, all in [0, 1])
FAMILIES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "white": ((0.05, 0.15), (0.0, 0.06), (0.86, 0.96)),
    "cream": ((0.08, 0.14), (0.1, 0.28), (0.78, 0.93)),
    "grey": ((0.0, 1.0), (0.0, 0.06), (0.4, 0.68)),
    "light": ((0.0, 1.0), (0.0, 0.05), (0.62, 0.8)),
    "dark": ((0.0, 1.0), (0.0, 0.15), (0.1, 0.25)),
    "pastel": ((0.0, 1.0), (0.12, 0.3), (0.75, 0.9)),
    "vivid": ((0.0, 1.0), (0.5, 0.85), (0.45, 0.85)),
    "deep": ((0.0, 1.0), (0.4, 0.7), (0.22, 0.48)),
    "oak": ((0.07, 0.1), (0.35, 0.55), (0.55, 0.78)),
    "walnut": ((0.04, 0.08), (0.4, 0.65), (0.22, 0.42)),
    "brick": ((0.01, 0.06), (0.45, 0.65), (0.42, 0.65)),
    "sand": ((0.09, 0.13), (0.2, 0.4), (0.62, 0.82)),
    "rust": ((0.03, 0.07), (0.5, 0.75), (0.3, 0.5)),
    "leaf": ((0.2, 0.32), (0.4, 0.65), (0.25, 0.48)),
    "autumn": ((0.04, 0.16), (0.5, 0.8), (0.4, 0.7)),
    "grass": ((0.19, 0.29), (0.35, 0.6), (0.36, 0.56)),
    "dry": ((0.12, 0.18), (0.3, 0.5), (0.48, 0.66)),
    "soil": ((0.06, 0.1), (0.3, 0.5), (0.25, 0.42)),
    "asphalt": ((0.55, 0.68), (0.0, 0.08), (0.26, 0.42)),
    "slate": ((0.55, 0.65), (0.08, 0.25), (0.22, 0.4)),
    "terracotta": ((0.02, 0.05), (0.5, 0.7), (0.5, 0.68)),
    "glass": ((0.52, 0.62), (0.15, 0.4), (0.25, 0.5)),
    "water": ((0.48, 0.58), (0.35, 0.6), (0.25, 0.45)),
    "skin": ((0.04, 0.08), (0.3, 0.6), (0.35, 0.85)),
}


@dataclass
class Palette:
    """Draws materials for roles of one scene and keeps them: an index into `materials` is what meshes carry."""

    look: str
    rng: np.random.Generator
    materials: list[Material] = field(default_factory=list)
    _kept: dict[str, list[int]] = field(default_factory=dict)

    def new(self, role: str, size_m: tuple[float, float] | None = None) -> int:
        """A freshly drawn material for a role; `size_m` overrides its cell."""
        choices = LOOKS[self.look][role]
        pattern, families, size_s, size_t, amount, gloss, glow = choices[self.rng.integers(len(choices))]
        first, second, third = (self._color(family) for family in families)
        size = size_m or (self.rng.uniform(*size_s), self.rng.uniform(*size_t))
        strength = self.rng.uniform(*amount)
        self.materials.append(Material(pattern, (first, second, third), size, strength, gloss, glow))
        return len(self.materials) - 1

    def some(self, role: str, variety: int = 2) -> int:
        """One of at most `variety` materials of a role that this scene reuses."""
        kept = self._kept.setdefault(role, [])
        if len(kept) < variety:
            kept.append(self.new(role))
            return kept[-1]
        return kept[self.rng.integers(variety)]

    def _color(self, family: str) -> Color:
        return colorsys.hsv_to_rgb(*(self.rng.uniform(*bounds) for bounds in FAMILIES[family]))
