"""The sky: a gradient, clouds, and the glow of the sun."""

from dataclasses import dataclass

import numpy as np

from ..geometry.rays import dot
from .noise import fractal


@dataclass(frozen=True)
class Sky:
    """Linear colours; `cover` is the share of clouds, `sun` the unit vector towards the sun."""

    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    cover: float
    sun: np.ndarray
    sun_color: np.ndarray  # irradiance of direct sunlight; zero when overcast
    shift: float = 0.0

    def radiance(self, rays: np.ndarray) -> np.ndarray:
        """Linear light (N, 3) that arrives along unit rays (N, 3)."""
        up = rays[:, 2].clip(0, 1)
        blend = np.power(1 - up, np.float32(3.0))[:, None]
        color = self.zenith + (self.horizon - self.zenith) * blend
        clouds = self._clouds(rays, up)[:, None]
        color += (self.cloud - color) * clouds
        towards = dot(rays, self.sun.astype(np.float32)[None]).clip(0, 1)
        glow = 0.12 * towards**24 + 4.0 * (towards > 0.9994) * (1 - clouds[:, 0])
        return (color + glow[:, None] * self.sun_color).astype(np.float32)

    def _clouds(self, rays: np.ndarray, up: np.ndarray) -> np.ndarray:
        if self.cover <= 0:
            return np.zeros(len(rays), np.float32)
        spread = 1 / (up + 0.12)
        footprint = 0.03 * spread
        density = fractal(rays[:, 0] * spread * 1.5 + self.shift, rays[:, 1] * spread * 1.5 - self.shift, footprint)
        return ((density - 0.62 + 0.3 * self.cover) * 6).clip(0, 1) * (up * 12).clip(0, 1)


def draw_sky(look: str, rng: np.random.Generator) -> Sky:
    """A clear or partly cloudy noon in the synthetic look; any weather and hour in the field."""
    azimuth = rng.uniform(0, 2 * np.pi)
    low, high = (0.6, 1.2) if look == "synthetic" else (0.12, 1.2)
    elevation = rng.uniform(low, high)
    sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    overcast = look == "field" and rng.random() < 0.4
    warmth = np.exp(-4 * elevation)
    zenith = np.array([0.12, 0.26, 0.62]) * rng.uniform(0.8, 1.2)
    horizon = np.array([0.6, 0.75, 0.92]) * (1 - warmth) + np.array([1.0, 0.6, 0.35]) * warmth
    sun_color = np.array([1.0, 0.93, 0.82]) * (1 - warmth) + np.array([1.0, 0.55, 0.25]) * warmth
    strength = rng.uniform(2.0, 2.8)
    cover = rng.uniform(0, 0.6) if look == "synthetic" else rng.uniform(0.1, 0.9)
    if overcast:
        zenith, horizon, strength, cover = np.full(3, 0.6), np.full(3, 0.8), 0.0, rng.uniform(0.5, 1.0)
    cloud = np.full(3, rng.uniform(0.45, 0.6) if overcast else 0.95)
    return Sky(zenith, horizon, cloud, cover, sun, sun_color * strength, rng.uniform(0, 16))
