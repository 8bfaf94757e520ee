"""A scene: triangles in an Embree tree, what covers them, the lights, and where a camera may stand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from ..appearance.sky import Sky
from ..geometry.mesh import TriangleArrays
from ..geometry.rays import dot, normalised

FAR_M = 1e6  # a reach beyond everything


class Surface(Protocol):
    """What triangles look like: procedural materials, or the colours and images of a user's file."""

    def appearance(self, face: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> "Appearance": ...


@dataclass(frozen=True)
class Appearance:
    """Linear albedo (N, 3), mirror share (N,) and own light (N,) of surface points."""

    albedo: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray


@dataclass(frozen=True)
class Lamp:
    """A small light at `position_m`; `power` (3,) is its irradiance at 1 m; with a `facing` it lights one side only."""

    position_m: np.ndarray
    power: np.ndarray
    radius_m: float
    low: tuple[float, float]  # the room (x, y) that it lights: walls keep it in
    high: tuple[float, float]
    facing: np.ndarray | None = None


def _level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


@dataclass(frozen=True)
class Region:
    """A rectangle of places for a camera's foot, the ground's height there from x and y (N,), and its eye height."""

    low: tuple[float, float]
    high: tuple[float, float]
    ground_m: Callable[[np.ndarray, np.ndarray], np.ndarray] = _level
    eye_m: tuple[float, float] = (1.2, 2.0)


@dataclass(frozen=True)
class Hits:
    """First hits of N rays: distance (inf: none), face (-1: none), normal that faces the ray, uv; back: inner side."""

    origins: np.ndarray
    rays: np.ndarray
    distance_m: np.ndarray
    face: np.ndarray
    normal: np.ndarray
    uv: np.ndarray
    back: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        return self.face >= 0

    @property
    def points(self) -> np.ndarray:
        return self.origins + self.rays * np.where(self.hit, self.distance_m, 0)[:, None]

    def take(self, index: np.ndarray) -> "Hits":
        fields = (self.origins, self.rays, self.distance_m, self.face, self.normal, self.uv, self.back)
        return Hits(*(values[index] for values in fields))


class Scene:
    """Immutable once built. `ambient` is (sky side, ground side) irradiance, linear RGB.

    `oriented`: all faces turn outwards, so that a point that sees many from behind lies inside something.
    """

    def __init__(
        self,
        triangles: TriangleArrays,
        surface: Surface,
        sky: Sky,
        ambient: tuple[np.ndarray, np.ndarray],
        lamps: list[Lamp],
        regions: list[Region],
        info: dict,
        oriented: bool = True,
    ) -> None:
        self.surface, self.sky, self.ambient, self.lamps = surface, sky, ambient, lamps
        self.regions, self.info, self.oriented = regions, info, oriented
        self.vertices, self.triangle_count = triangles.vertices, len(triangles.faces)
        a, b, c = np.hstack([triangles.normals, triangles.uv])[triangles.faces.T]
        self._attributes = np.stack([a, b - a, c - a], axis=1)  # normal and uv at a corner, and along two edges
        self._embree = EmbreeScene(robust=True)
        TriangleMesh(self._embree, triangles.vertices, triangles.faces)

    def trace(self, origins: np.ndarray, rays: np.ndarray) -> Hits:
        """First hits of unit rays (N, 3) from `origins` (3,) or (N, 3)."""
        origins = np.ascontiguousarray(np.broadcast_to(origins, rays.shape), np.float32)
        rays = np.ascontiguousarray(rays, np.float32)
        found = self._embree.run(origins, rays, output=1)
        face = found["primID"]
        attributes = self._attributes[face]
        mixed = attributes[:, 0] + attributes[:, 1] * found["u"][:, None] + attributes[:, 2] * found["v"][:, None]
        normal, uv = mixed[:, :3], mixed[:, 3:]
        back = dot(found["Ng"], rays) > 0
        normal = normalised(normal) * np.where(dot(normal, rays) > 0, np.float32(-1), np.float32(1))[:, None]
        distance = np.where(face >= 0, found["tfar"], np.float32(np.inf))
        return Hits(origins, rays, distance, face, normal, uv, back & (face >= 0))

    def distance(self, origins: np.ndarray, rays: np.ndarray, reach_m: float = FAR_M) -> np.ndarray:
        """Distance (N,) to the first hit, or `reach_m` where there is none nearer."""
        origins = np.ascontiguousarray(np.broadcast_to(origins, rays.shape), np.float32)
        limits = np.full(len(rays), reach_m, np.float32)
        return self._embree.run(origins, np.ascontiguousarray(rays, np.float32), limits, query="DISTANCE")

    def blocked(self, origins: np.ndarray, rays: np.ndarray, reach_m: np.ndarray) -> np.ndarray:
        """Whether anything lies within `reach_m` (N,) along rays (N, 3), or along one ray (1, 3) from everywhere."""
        origins, rays = np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(rays, np.float32)
        return self._embree.run(origins, rays, np.array(reach_m, np.float32), query="OCCLUDED") >= 0
