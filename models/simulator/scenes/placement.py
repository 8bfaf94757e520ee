"""Where a camera may stand, and smooth paths it may move along."""

import numpy as np

from .world import Scene

CLEARANCE_M = 0.5
STEP_M = 0.3  # kerbs, rugs and bumps of the ground
CANDIDATES = 48


def _probe_rays() -> np.ndarray:
    """42 rays spread evenly over the sphere (a Fibonacci lattice)."""
    index = np.arange(42) + 0.5
    z = 1 - 2 * index / 42
    angle = index * np.pi * (1 + 5**0.5)
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1).astype(np.float32)


PROBES = _probe_rays()


def clearance_m(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Distance (N,) from points (N, 3) to the nearest thing among 42 probes; -1 for a point inside something."""
    origins = np.repeat(points, len(PROBES), axis=0)
    hits = scene.trace(origins, np.tile(PROBES, (len(points), 1)))
    nearest = hits.distance_m.reshape(len(points), -1).min(axis=1)
    inside = hits.back.reshape(len(points), -1).mean(axis=1) > 0.25
    return np.where(inside & scene.oriented, -1, nearest)


def camera_positions(scene: Scene, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` places (count, 3) at eye height in free space, spread over the scene's regions.

    Raises ValueError when the scene has no free place.
    """
    points = _standing_points(scene, rng, CANDIDATES + 4 * count)
    if not len(points):
        points = np.mean([scene.vertices.min(axis=0), scene.vertices.max(axis=0)], axis=0, keepdims=True)
    room = clearance_m(scene, points)
    if room.max() <= 0:
        raise ValueError("the scene has no free place for a camera")
    free = points[room >= min(CLEARANCE_M, room.max())]
    chosen = [free[0]]
    while len(chosen) < count:  # farthest point first, so that views of one scene differ
        apart = np.linalg.norm(free[:, None] - np.array(chosen), axis=2).min(axis=1)
        apart *= rng.uniform(0.4, 1.0, len(free))
        chosen.append(free[apart.argmax()])
    return np.array(chosen)


def _standing_points(scene: Scene, rng: np.random.Generator, count: int) -> np.ndarray:
    """Random points at eye height over the ground of the regions, where nothing stands between ground and eye."""
    areas = np.array([np.prod(np.subtract(r.high, r.low)) for r in scene.regions])
    points = []
    for region, share in zip(scene.regions, rng.multinomial(count, areas / areas.sum()), strict=True):
        x, y = rng.uniform(region.low, region.high, (share, 2)).T
        eye = rng.uniform(*region.eye_m, share)
        points.append(np.column_stack([x, y, region.ground_m(x, y) + eye, eye]))
    where = np.concatenate(points).astype(np.float32)
    where = where[np.isfinite(where).all(axis=1)]
    drop = scene.distance(where[:, :3], np.tile(np.array([0, 0, -1], np.float32), (len(where), 1)))
    return where[np.abs(drop - where[:, 3]) < STEP_M, :3]


def camera_path(scene: Scene, count: int, length_m: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A smooth walk of `count` poses: positions (count, 3) and yaw (count,) in radians, at most `length_m` long."""
    start = camera_positions(scene, 1, rng)[0]
    best = np.tile(start, (count, 1))
    for first in rng.uniform(0, 2 * np.pi, 8):
        for bend in (rng.uniform(0.2, 0.8), -0.5, 0.0):
            walk = _walk(start, first, bend, length_m, count)
            free = _free_part(scene, walk)
            if _length(walk[: free + 1]) > 1.05 * _length(best):
                best = _resample(walk[: free + 1], count)
        if _length(best) > 0.8 * length_m:
            break
    bob = 0.02 * np.sin(np.arange(count) * 0.9)
    best = best + np.column_stack([np.zeros((count, 2)), bob])
    yaw = rng.uniform(0, 2 * np.pi) + 0.5 * np.sin(np.linspace(0, np.pi, count)) * rng.uniform(-1, 1)
    return best.astype(np.float32), yaw


def _walk(start: np.ndarray, heading: float, bend: float, length_m: float, count: int) -> np.ndarray:
    """An arc that starts along `heading` and turns by `bend` radians."""
    angle = heading + bend * np.linspace(0, 1, max(count, 24))
    step = length_m / (len(angle) - 1)
    moves = step * np.column_stack([np.cos(angle), np.sin(angle), np.zeros(len(angle))])
    return start + np.concatenate([np.zeros((1, 3)), np.cumsum(moves[:-1], axis=0)])


def _free_part(scene: Scene, walk: np.ndarray) -> int:
    """Index of the last point that is reached without coming too close to anything."""
    steps = np.diff(walk, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    crossing = scene.blocked(walk[:-1], steps / np.maximum(lengths, 1e-6)[:, None], lengths)
    tight = clearance_m(scene, walk.astype(np.float32)) < CLEARANCE_M
    stops = np.flatnonzero(tight[1:] | crossing)
    return int(stops[0]) if len(stops) else len(walk) - 1


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _resample(path: np.ndarray, count: int) -> np.ndarray:
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0, along[-1], count)
    return np.column_stack([np.interp(at, along, path[:, axis]) for axis in range(3)])
