"""Scenes by seed, and scenes from a user's mesh file."""

from pathlib import Path
from typing import Literal

import numpy as np

from ..appearance.materials import MaterialTable
from ..appearance.palette import LOOKS, Palette
from ..appearance.sky import Sky, draw_sky
from ..geometry.mesh import MeshBuilder
from ..scenes import outdoor
from .indoor import House
from .mesh_file import read_mesh
from .world import FAR_M, Appearance, Region, Scene

Kind = Literal["indoor", "outdoor"]
Look = Literal["synthetic", "field"]
KINDS = ("indoor", "outdoor")


class Procedural:
    """A surface of the scene's own materials."""

    def __init__(self, palette: Palette, material_of_face: np.ndarray) -> None:
        self._table = MaterialTable(palette.materials)
        self._material_of_face = material_of_face

    def appearance(self, face: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> Appearance:
        material = self._material_of_face[face]
        albedo = self._table.albedo(material, uv, footprint)
        return Appearance(albedo, self._table.gloss[material], self._table.glow[material])


def build_scene(kind: Kind, look: Look, seed: int) -> Scene:
    """A procedural scene; the same arguments give the same scene. ValueError for an unknown kind or look."""
    if kind not in KINDS or look not in LOOKS:
        raise ValueError(f"no such scene: kind {kind!r} (of {', '.join(KINDS)}), look {look!r} (of {', '.join(LOOKS)})")
    rng = np.random.Generator(np.random.PCG64([seed, KINDS.index(kind), list(LOOKS).index(look)]))
    palette, sky = Palette(look, rng), draw_sky(look, rng)
    if kind == "indoor":
        house = House(look, sky, palette, rng)
        house.build()
        builder, lamps, regions, layout = house.builder, house.lamps, house.regions, "rooms"
        level = rng.uniform(0.25, 0.5)
        ambient = np.array([0.95, 0.97, 1.0]) * level * 0.8, np.array([1.0, 0.95, 0.88]) * level
    else:
        builder, lamps = MeshBuilder(), []
        layout, regions = outdoor.build(look, builder, palette, rng)
        ambient = _daylight(sky)
    triangles = builder.build()
    info = {"scene": kind, "look": look, "scene_seed": seed, "layout": layout}
    return Scene(triangles, Procedural(palette, triangles.material), sky, ambient, lamps, regions, info)


def _daylight(sky: Sky) -> tuple[np.ndarray, np.ndarray]:
    """Ambient light from above and from below under an open sky."""
    above = (0.6 * sky.zenith + 0.4 * sky.horizon) * (1 - sky.cover) + sky.cloud * sky.cover
    return above * 1.1, above * 0.3 + sky.sun_color * 0.1


def load_scene(path: str | Path) -> Scene:
    """A scene of a user's mesh file (GLB, OBJ, PLY; metres; GLB y up, the others z up) under a clear sky.

    Raises ValueError, in one line, when the file cannot be read or holds no triangles.
    """
    triangles, surface = read_mesh(path)
    low, high = triangles.vertices.min(axis=0), triangles.vertices.max(axis=0)
    rng = np.random.Generator(np.random.PCG64(0))
    ambient = np.full(3, 0.9), np.full(3, 0.7)
    info = {"scene": "mesh", "source": Path(path).name}
    scene = Scene(triangles, surface, draw_sky("synthetic", rng), ambient, [], [], info, oriented=False)
    scene.regions += [_floor_below(scene, low, high, z) for z in np.linspace(low[2], high[2], 9)[1:]]
    return scene


def _floor_below(scene: Scene, low: np.ndarray, high: np.ndarray, z: float) -> Region:
    """The whole plan of a mesh, with the ground that is met when falling from height z (nan where there is none)."""
    inset, tall = 0.1 * (high - low)[:2], float(high[2] - low[2])

    def ground_m(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        start = np.column_stack([x, y, np.full(len(x), z - 1e-4 * tall)]).astype(np.float32)
        drop = scene.distance(start, np.tile(np.array([0, 0, -1], np.float32), (len(x), 1)))
        return np.where(drop < FAR_M, start[:, 2] - drop, np.nan)

    eye_m = min(1.2, 0.4 * tall), min(2.0, 0.6 * tall)
    return Region(tuple(low[:2] + inset), tuple(high[:2] - inset), ground_m, eye_m)
