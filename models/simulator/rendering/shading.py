"""Light on surfaces: sun and lamps with shadow rays, sky light with ambient occlusion, one mirror bounce on gloss."""

import numpy as np

from ..geometry.rays import dot, normalised
from ..scenes.world import Hits, Lamp, Scene

OCCLUSION_REACH_M = 1.2
OCCLUSION_RANGE_M = 40.0  # farther away, occlusion is smaller than a pixel
FAINT = 0.06  # irradiance below which a lamp is not worth a shadow ray
MIRROR_SHARE = 0.03  # reflections weaker than this are left out
_AROUND = np.array([(0.85, 0.0, 0.53), (-0.43, 0.74, 0.53), (-0.43, -0.74, 0.53)], np.float32)


def irradiance(scene: Scene, hits: Hits, fine: bool = True) -> np.ndarray:
    """Light (N, 3) that falls on the points hit, zero where nothing is; when not `fine`, no lamps and corners."""
    light = np.zeros((len(hits.face), 3), np.float32)
    seen = np.flatnonzero(hits.hit)
    if not seen.size:
        return light
    there = hits.take(seen)
    origins = lifted(there)
    above, below = scene.ambient
    share = (0.5 + 0.5 * there.normal[:, 2:]).astype(np.float32)
    falling = (below + (above - below) * share).astype(np.float32)
    _add_sun(scene, origins, there.normal, falling)
    if fine:
        falling *= _openness(scene, origins, there)[:, None]
        for lamp in scene.lamps:
            _add_lamp(scene, lamp, origins, there.normal, falling)
    light[seen] = falling
    return light


def radiance(scene: Scene, hits: Hits, light: np.ndarray, pixel_rad: float, mirror: bool = True) -> np.ndarray:
    """Light (N, 3) that comes back along the rays from points under irradiance `light` (N, 3), or from the sky."""
    color = np.empty((len(hits.face), 3), np.float32)
    hit = hits.hit
    color[~hit] = scene.sky.radiance(hits.rays[~hit])
    seen = np.flatnonzero(hit)
    there = hits.take(seen)
    facing = -dot(there.normal, there.rays).clip(-1, -0.15)
    look = scene.surface.appearance(there.face, there.uv, there.distance_m * pixel_rad / np.sqrt(facing))
    color[seen] = look.albedo * (light[seen] + look.glow[:, None])
    if mirror:
        share = look.gloss * (0.35 + 0.65 * (1 - facing) ** 2)
        shiny = np.flatnonzero(share > MIRROR_SHARE)
        reflected = _reflection(scene, there.take(shiny), pixel_rad)
        color[seen[shiny]] += (reflected.clip(0, 3) - color[seen[shiny]]) * share[shiny, None]
    return color


def lifted(hits: Hits) -> np.ndarray:
    """The points hit, moved off their surfaces so that new rays do not hit these again."""
    return hits.points + hits.normal * (1e-3 + 1e-4 * hits.distance_m)[:, None]


def _reflection(scene: Scene, hits: Hits, pixel_rad: float) -> np.ndarray:
    if not len(hits.face):
        return np.zeros((0, 3), np.float32)
    rays = hits.rays - 2 * dot(hits.normal, hits.rays)[:, None] * hits.normal
    seen = scene.trace(lifted(hits), rays)
    return radiance(scene, seen, irradiance(scene, seen, fine=False), pixel_rad * 4, mirror=False)


def _openness(scene: Scene, origins: np.ndarray, hits: Hits) -> np.ndarray:
    """Share of light from all around that is left in corners and under things, from three probes around the normal."""
    openness = np.ones(len(origins), np.float32)
    near = np.flatnonzero(hits.distance_m < OCCLUSION_RANGE_M)
    origins, normal = origins[near], hits.normal[near]
    helper = np.where(np.abs(normal[:, 2:]) < 0.9, np.array([0, 0, 1], np.float32), np.array([1, 0, 0], np.float32))
    tangent = normalised(_cross(helper, normal))
    other = _cross(normal, tangent)
    total = np.zeros(len(near), np.float32)
    for x, y, z in _AROUND:
        distance = scene.distance(origins, tangent * x + other * y + normal * z, OCCLUSION_REACH_M)
        total += np.sqrt((distance / OCCLUSION_REACH_M).clip(0.02, 1))
    openness[near] = 0.25 + 0.75 * total / len(_AROUND)
    return openness


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _add_sun(scene: Scene, origins: np.ndarray, normal: np.ndarray, light: np.ndarray) -> None:
    if not scene.sky.sun_color.any():
        return
    sun = scene.sky.sun.astype(np.float32)
    cosine = dot(normal, sun[None])
    lit = np.flatnonzero(cosine > 0)
    shadow = scene.blocked(origins[lit], sun[None], np.full(lit.size, 1e6))
    light[lit] += (cosine[lit] * ~shadow)[:, None] * scene.sky.sun_color.astype(np.float32)


def _add_lamp(scene: Scene, lamp: Lamp, origins: np.ndarray, normal: np.ndarray, light: np.ndarray) -> None:
    """Adds a lamp's light in place; a bulb softens its shadows with two rays to opposite sides of it."""
    (x0, y0), (x1, y1) = lamp.low, lamp.high
    x, y = origins[:, 0], origins[:, 1]
    inside = np.flatnonzero((x > x0) & (x < x1) & (y > y0) & (y < y1))
    to = lamp.position_m.astype(np.float32) - origins[inside]
    squared = dot(to, to)
    distance = np.sqrt(squared)
    strength = dot(to, normal[inside]) / (distance * np.maximum(squared, 0.25))
    if lamp.facing is not None:
        strength *= (-dot(to, lamp.facing.astype(np.float32)[None]) / distance).clip(0, 1)
    bright = np.flatnonzero(strength * lamp.power.max() > FAINT)
    lit, to, strength = inside[bright], to[bright], strength[bright]
    if lit.size:
        shadow = np.zeros(lit.size, np.float32)
        side = np.array([0.7, 0.7, 0.1], np.float32) * lamp.radius_m
        sides = (side, -side) if lamp.facing is None else (side * 0,)
        for offset in sides:
            towards = to + offset
            reach = np.sqrt(dot(towards, towards))
            shadow += scene.blocked(origins[lit], towards / reach[:, None], reach - 2 * lamp.radius_m - 0.05)
        strength = strength * (1 - shadow / len(sides))
    light[lit] += strength[:, None] * lamp.power.astype(np.float32)
