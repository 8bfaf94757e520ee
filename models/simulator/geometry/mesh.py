"""A world of instanced templates (boxes, cylinders, blobs, roofs) and free meshes, turned into one triangle mesh."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import trimesh

Vector = tuple[float, float, float]
Materials = int | tuple[int, ...]  # one for all faces, or one for each of the six slots of a template


@dataclass(frozen=True)
class Template:
    """A shape inside the unit cube around the origin.

    `uv_per_size` (V, 2, 3) times the size of an instance gives surface coordinates in metres; `uv_axes` (V, 2, 3)
    picks the part of the instance's anchor that is added to them.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    slots: np.ndarray  # (F,) which of the six materials of an instance a face takes
    uv_per_size: np.ndarray
    uv_axes: np.ndarray


@dataclass
class TriangleArrays:
    """vertices (V, 3), unit normals (V, 3), surface coordinates uv (V, 2 or more), faces (F, 3), material (F,)."""

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    material: np.ndarray


@lru_cache(maxsize=1)
def _box() -> Template:
    """Six faces in the slot order +x, -x, +y, -y, +z, -z; u runs along the wall, v upwards."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    vertices, normals, faces, per_size, axes = [], [], [], [], []
    for slot, (axis, sign) in enumerate((a, s) for a in range(3) for s in (1, -1)):
        u_axis, v_axis = [(1, 2), (0, 2), (0, 1)][axis]
        flip = (sign > 0) == (axis == 1)  # the winding that makes the face look outwards
        for u, v in corners:
            vertex, pick, scale = np.zeros(3), np.zeros((2, 3)), np.zeros((2, 3))
            vertex[[axis, u_axis, v_axis]] = 0.5 * sign, u, v
            pick[0, u_axis] = pick[1, v_axis] = 1
            scale[0, u_axis], scale[1, v_axis] = u + 0.5, v + 0.5
            vertices.append(vertex)
            normals.append(sign * np.eye(3)[axis])
            per_size.append(scale)
            axes.append(pick)
        first = 4 * slot
        faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
        if flip:
            faces[-2:] = [face[::-1] for face in faces[-2:]]
    return Template(*map(np.array, (vertices, normals, faces, np.repeat(range(6), 2), per_size, axes)))


@lru_cache(maxsize=4)
def _cylinder(top: float, sides: int = 12) -> Template:
    """A frustum along z: bottom diameter 1, top diameter `top`. Side in slot 0, caps in slots 4 and 5."""
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.5
    low, high = np.c_[ring, np.full(sides + 1, -0.5)], np.c_[ring * top, np.full(sides + 1, 0.5)]
    slope = np.c_[ring * 2, np.full(sides + 1, (1 - top) / 2)]
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    vertices = np.concatenate([low, high, low, high])
    normals = np.concatenate([slope, slope, np.tile([0, 0, -1], (sides + 1, 1)), np.tile([0, 0, 1], (sides + 1, 1))])
    i, n = np.arange(sides), sides + 1
    side = np.concatenate([np.c_[i, i + 1, i + 1 + n], np.c_[i, i + 1 + n, i + n]])
    fan = np.arange(1, sides - 1)
    bottom = np.c_[np.full(sides - 2, 2 * n), fan + 1 + 2 * n, fan + 2 * n]
    cap = np.c_[np.full(sides - 2, 3 * n), fan + 3 * n, fan + 1 + 3 * n]
    slots = np.repeat([0, 5, 4], [2 * sides, sides - 2, sides - 2])
    per_size = np.zeros((4 * n, 2, 3))
    per_size[: 2 * n, 0, 0] = np.tile(angle / 2, 2)
    per_size[: 2 * n, 1, 2] = vertices[: 2 * n, 2] + 0.5
    per_size[2 * n :, 0, 0], per_size[2 * n :, 1, 1] = vertices[2 * n :, 0], vertices[2 * n :, 1]
    return Template(vertices, normals, np.concatenate([side, bottom, cap]), slots, per_size, np.zeros_like(per_size))


@lru_cache(maxsize=8)
def _ball(bumps: int) -> Template:
    """A sphere of diameter 1; `bumps` > 0 seeds a lumpy one (foliage, rocks)."""
    sphere = trimesh.creation.icosphere(subdivisions=1, radius=0.5)
    vertices = np.array(sphere.vertices)
    if bumps:
        rng = np.random.Generator(np.random.PCG64(bumps))
        wave = np.sin(vertices @ rng.normal(0, 7, (3, 5)) + rng.uniform(0, 6.28, 5)).mean(axis=1)
        vertices *= (1 + 0.35 * wave + rng.uniform(-0.1, 0.05, len(vertices)))[:, None]
    sphere = trimesh.Trimesh(vertices, sphere.faces, process=False)
    per_size = np.zeros((len(vertices), 2, 3))  # flattened from above: made for solid noise, not for images
    per_size[:, 0, 0], per_size[:, 1, 2] = vertices[:, 0] + vertices[:, 1], vertices[:, 2] - vertices[:, 1]
    slots = np.zeros(len(sphere.faces), dtype=int)
    normals, faces = np.array(sphere.vertex_normals), np.array(sphere.faces)
    return Template(vertices, normals, faces, slots, per_size, np.zeros_like(per_size))


@lru_cache(maxsize=1)
def _gable() -> Template:
    """A roof with its ridge along x: slopes in slot 0, the triangular gables in slots 2 and 3, underside in slot 5."""
    a, b, c, d = (-0.5, -0.5, -0.5), (0.5, -0.5, -0.5), (0.5, 0.5, -0.5), (-0.5, 0.5, -0.5)
    e, f = (-0.5, 0, 0.5), (0.5, 0, 0.5)
    triangles = np.array([(a, b, f), (a, f, e), (c, d, e), (c, e, f), (b, c, f), (d, a, e), (a, d, c), (a, c, b)])
    vertices = triangles.reshape(-1, 3)
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals = np.repeat(normal / np.linalg.norm(normal, axis=1, keepdims=True), 3, axis=0)
    per_size = np.zeros((24, 2, 3))
    per_size[:12, 0, 0], per_size[:12, 1, 2] = vertices[:12, 0], vertices[:12, 2]
    per_size[12:, 0, 1], per_size[12:, 1, 2] = vertices[12:, 1], vertices[12:, 2]
    slots = np.array([0, 0, 0, 0, 2, 3, 5, 5])
    return Template(vertices, normals, np.arange(24).reshape(8, 3), slots, per_size, np.zeros_like(per_size))


TEMPLATES = {
    "box": lambda: _box(),
    "cylinder": lambda: _cylinder(1.0),
    "taper": lambda: _cylinder(0.6),
    "cone": lambda: _cylinder(0.04),
    "ball": lambda: _ball(0),
    "blob1": lambda: _ball(1),
    "blob2": lambda: _ball(2),
    "blob3": lambda: _ball(3),
    "gable": lambda: _gable(),
}


@dataclass
class MeshBuilder:
    """Collects instances and free meshes; `build` expands all instances of a template in one go."""

    _instances: dict[str, list[tuple]] = field(default_factory=dict)
    _meshes: list[TriangleArrays] = field(default_factory=list)

    def put(
        self,
        template: str,
        centre: Vector,
        size: Vector,
        material: Materials,
        yaw: float = 0.0,
        rotation: np.ndarray | None = None,
        anchor: Vector = (0.0, 0.0, 0.0),
    ) -> None:
        """Adds an instance: size in metres, turned by `yaw` or a `rotation` (3, 3); `anchor` shifts a box's texture."""
        slots = (material,) * 6 if isinstance(material, int) else material
        row = (centre, size, slots, _about_z(yaw) if rotation is None else rotation, anchor)
        self._instances.setdefault(template, []).append(row)

    def surface(self, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, material: int) -> None:
        """Adds a free mesh with smooth normals: terrain, curtains."""
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        materials = np.full(len(faces), material)
        self._meshes.append(TriangleArrays(vertices, np.array(mesh.vertex_normals), uv, faces, materials))

    def adopt(self, other: "MeshBuilder", origin: Vector, yaw: float) -> None:
        """Takes over the instances of another builder, turned by `yaw` around its origin and moved to `origin`."""
        turn = _about_z(yaw)
        for template, rows in other._instances.items():
            moved = [(turn @ c + origin, size, slots, turn @ rotation, a) for c, size, slots, rotation, a in rows]
            self._instances.setdefault(template, []).extend(moved)

    def build(self) -> TriangleArrays:
        parts = [_expand(TEMPLATES[name](), rows) for name, rows in self._instances.items()] + self._meshes
        starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
        return TriangleArrays(
            vertices=np.concatenate([part.vertices for part in parts]).astype(np.float32),
            normals=np.concatenate([part.normals for part in parts]).astype(np.float32),
            uv=np.concatenate([part.uv for part in parts]).astype(np.float32),
            faces=np.concatenate([p.faces + start for p, start in zip(parts, starts, strict=True)]).astype(np.int32),
            material=np.concatenate([part.material for part in parts]).astype(np.int32),
        )


def _about_z(yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array(((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0)))


def _expand(template: Template, rows: list[tuple]) -> TriangleArrays:
    centre, size, slots, rotation, anchor = (np.array(column) for column in zip(*rows, strict=True))
    turned = np.swapaxes(rotation, 1, 2)
    vertices = (template.vertices * size[:, None]) @ turned + centre[:, None]
    normals = (template.normals / size[:, None]) @ turned
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    uv = np.einsum("vkj,nj->nvk", template.uv_per_size, size) + np.einsum("vkj,nj->nvk", template.uv_axes, anchor)
    faces = template.faces + len(template.vertices) * np.arange(len(rows))[:, None, None]
    material = slots[:, template.slots]
    return TriangleArrays(
        vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces.reshape(-1, 3), material.ravel()
    )


@dataclass(frozen=True)
class Frame:
    """A local coordinate frame (origin, yaw) of a builder, in which an object's parts are put together."""

    builder: MeshBuilder
    origin: Vector = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    def put(self, template: str, centre: Vector, size: Vector, material: Materials, yaw: float = 0.0) -> None:
        self.builder.put(template, self.point(centre), size, material, yaw=self.yaw + yaw)

    def standing(self, template: str, x: float, y: float, z: float, size: Vector, material: Materials) -> None:
        """Puts a part whose underside is at height z."""
        self.put(template, (x, y, z + size[2] / 2), size, material)

    def point(self, local: Vector) -> Vector:
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = local
        ox, oy, oz = self.origin
        return float(ox + cos * x - sin * y), float(oy + sin * x + cos * y), float(oz + z)

    def inner(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> "Frame":
        return Frame(self.builder, self.point((x, y, z)), self.yaw + yaw)
