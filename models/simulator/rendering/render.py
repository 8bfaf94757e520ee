"""Panoramas of a scene: colour with antialiased edges, and the exact ray distance through every pixel centre."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..geometry.rays import centre_directions, directions, dot, rotation, turned
from ..scenes.world import FAR_M, Hits, Scene
from .shading import irradiance, radiance

SUBPIXELS = ((-0.33, -0.17), (0.33, 0.17))  # (row, column) offsets, beside the centre
EDGE_CONTRAST = 0.12


@dataclass(frozen=True)
class Panorama:
    """rgb uint8 (H, 2H, 3); depth_m float32 (H, 2H), ray distance, inf where the ray meets nothing."""

    rgb: np.ndarray
    depth_m: np.ndarray


def render(
    scene: Scene,
    position_m: np.ndarray | tuple[float, float, float],
    height: int,
    yaw_rad: float = 0.0,
    roll_rad: float = 0.0,
    pitch_rad: float = 0.0,
) -> Panorama:
    """Renders from `position_m` (3,), without any effect of a real camera (`looks.FieldCamera` adds them)."""
    origin = np.asarray(position_m, np.float32)
    turn = rotation(yaw_rad, pitch_rad, roll_rad)
    pixel_rad = np.pi / height
    hits = scene.trace(origin, turned(centre_directions(height), turn))
    light = irradiance(scene, hits)
    glow = radiance(scene, hits, light, pixel_rad)
    exposure = _exposure(glow, hits, height)
    color = _tone(glow, exposure).reshape(height, 2 * height, 3)
    rows, columns = np.nonzero(_edges(hits, color))
    if rows.size:
        fine = _tone(_subpixels(scene, origin, turn, hits, light, rows, columns), exposure)
        color[rows, columns] = (color[rows, columns] + fine.reshape(len(SUBPIXELS), -1, 3).sum(axis=0)) / (
            1 + len(SUBPIXELS)
        )
    rgb = (color * 255 + 0.5).astype(np.uint8)
    return Panorama(rgb, hits.distance_m.reshape(height, 2 * height))


def render_depth(
    scene: Scene,
    position_m: np.ndarray | tuple[float, float, float],
    height: int,
    yaw_rad: float = 0.0,
    roll_rad: float = 0.0,
    pitch_rad: float = 0.0,
) -> np.ndarray:
    """The depth of `render` alone, (H, 2H) float32, at a small part of its cost."""
    rays = turned(centre_directions(height), rotation(yaw_rad, pitch_rad, roll_rad))
    distance = scene.distance(np.asarray(position_m, np.float32), rays)
    return np.where(distance < FAR_M, distance, np.float32(np.inf)).reshape(height, 2 * height)


def _subpixels(
    scene: Scene, origin: np.ndarray, turn: np.ndarray, hits: Hits, light: np.ndarray, rows, columns
) -> np.ndarray:
    """Light (S * N, 3) at the S offsets within N pixels, lit as the nearest pixel centre on the same surface is."""
    height = int(np.sqrt(len(light) / 2))
    row_offset, column_offset = (np.repeat(offsets, len(rows)) for offsets in zip(*SUBPIXELS, strict=True))
    rows, columns = np.tile(rows, len(SUBPIXELS)), np.tile(columns, len(SUBPIXELS))
    rays = turned(directions(rows + 0.5 + row_offset, columns + 0.5 + column_offset, height), turn)
    fine = scene.trace(origin, rays)
    row_step, column_step = np.sign(row_offset).astype(int), np.sign(column_offset).astype(int)
    best, least = np.zeros(len(rows), np.int64), np.full(len(rows), np.inf)
    for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index = (rows + r * row_step).clip(0, height - 1) * 2 * height + (columns + c * column_step) % (2 * height)
        with np.errstate(invalid="ignore"):  # sky minus sky: never nearer, and needs no light
            away = np.abs(hits.distance_m[index] - fine.distance_m) / fine.distance_m
        away += 1 - dot(hits.normal[index], fine.normal)
        nearer = away < least
        best[nearer], least[nearer] = index[nearer], away[nearer]
    return radiance(scene, fine, light[best], np.pi / height / 2)


def _exposure(light: np.ndarray, hits: Hits, height: int) -> float:
    """Brings the mean log brightness of surfaces, weighted by solid angle, most of the way to a middle grey."""
    brightness = light.mean(axis=1)
    weight = np.repeat(np.cos(np.pi / 2 - np.pi * (np.arange(height) + 0.5) / height), 2 * height)
    weight = weight * np.where(hits.hit, 1.0, 0.3)
    mean = np.exp(np.average(np.log(brightness + 1e-3), weights=weight))
    return float((0.3 / mean) ** 0.85)


def _tone(light: np.ndarray, exposure: float) -> np.ndarray:
    """A soft shoulder for highlights, then the display's gamma: [0, 1]."""
    exposed = light * np.float32(exposure)
    return np.power((exposed * (1 + exposed / 9)) / (1 + exposed), np.float32(1 / 2.2)).clip(0, 1)


def _edges(hits: Hits, color: np.ndarray) -> np.ndarray:
    """Pixels (H, 2H) whose neighbourhood, across the seam too, changes in distance, direction or brightness."""
    shape = color.shape[:2]
    grey = color.mean(axis=2)
    slope = (1 / hits.distance_m).reshape(shape)
    normal = (dot(hits.normal, np.array([[0.36, 0.48, 0.8]], np.float32)) * hits.hit).reshape(shape)
    kernel = np.ones((3, 3), np.uint8)
    edges = np.zeros(shape, bool)
    for values, limit in ((grey, EDGE_CONTRAST), (slope / (slope + 0.02), 0.08), (normal, 0.15)):
        wrapped = cv2.copyMakeBorder(values, 0, 0, 1, 1, cv2.BORDER_WRAP)
        spread = cv2.morphologyEx(wrapped, cv2.MORPH_GRADIENT, kernel)[:, 1:-1]
        edges |= spread > limit
    return edges
