"""A user's own mesh (GLB, OBJ, PLY): its triangles, and its textures or colours."""

from pathlib import Path

import cv2
import numpy as np
import trimesh
from trimesh.visual import ColorVisuals, TextureVisuals

from ..appearance.materials import to_linear
from ..geometry.mesh import TriangleArrays
from .world import Appearance

SUFFIXES = (".glb", ".gltf", ".obj", ".ply")
GREY = (0.62, 0.62, 0.62)
_Y_UP = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # glTF: z forward, x left, y up


class FileSurface:
    """Vertex colours times textures; surface coordinates are (u, v, red, green, blue), linear."""

    def __init__(self, images: list[np.ndarray], image_of_face: np.ndarray, texels_per_m: np.ndarray) -> None:
        self._pyramids = [_pyramid(image) for image in images]
        self._image_of_face, self._texels_per_m = image_of_face, texels_per_m

    def appearance(self, face: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> Appearance:
        albedo = uv[:, 2:].copy()
        image = self._image_of_face[face]
        for index in np.unique(image[image >= 0]):
            points = np.flatnonzero(image == index)
            blur = footprint[points] * self._texels_per_m[face[points]]
            albedo[points] *= _sample(self._pyramids[index], uv[points, :2], blur)
        none = np.zeros(len(face), np.float32)
        return Appearance(albedo, none, none)


def read_mesh(path: str | Path) -> tuple[TriangleArrays, FileSurface]:
    """Reads a mesh file, z up. ValueError, in one line, for one that is unreadable, empty, or of another kind."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: not a mesh file ({', '.join(SUFFIXES)})")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    meshes = [mesh for mesh in _load(path) if len(mesh.faces)]
    if not meshes or not all(np.isfinite(mesh.vertices).all() for mesh in meshes):
        raise ValueError(f"{path}: the mesh has no triangles or has vertices that are not finite")
    return _join(meshes)


def _load(path: Path) -> list[trimesh.Trimesh]:
    try:
        scene = trimesh.load_scene(path)
    except Exception as error:
        raise ValueError(
            f"{path}: unreadable mesh ({type(error).__name__}: {str(error)[:120]})".replace("\n", " ")
        ) from error
    if path.suffix.lower() in (".glb", ".gltf"):
        scene.apply_transform(_Y_UP)
    return [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh)]


def _join(meshes: list[trimesh.Trimesh]) -> tuple[TriangleArrays, FileSurface]:
    vertices, normals, uv, faces, image_of_face, texels, images = [], [], [], [], [], [], []
    start = 0
    for mesh in meshes:
        coordinates, colors, image = _look(mesh)
        corners = mesh.triangles.reshape(-1, 3)  # unshared vertices: colours and normals may belong to faces
        vertices.append(corners)
        normals.append(np.repeat(mesh.face_normals, 3, axis=0))
        uv.append(np.hstack([coordinates, to_linear(colors)]))
        faces.append(np.arange(len(corners)).reshape(-1, 3) + start)
        image_of_face.append(np.full(len(mesh.faces), len(images) if image is not None else -1))
        texels.append(_texels_per_m(mesh, coordinates, image))
        images += [image] if image is not None else []
        start += len(corners)
    arrays = TriangleArrays(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(uv).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.zeros(sum(map(len, faces)), np.int32),
    )
    return arrays, FileSurface(images, np.concatenate(image_of_face), np.concatenate(texels).astype(np.float32))


def _look(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Per corner: image coordinates (3F, 2) and sRGB colour (3F, 3); and the image (H, W, 3), sRGB, if any."""
    corners, count = mesh.faces.ravel(), 3 * len(mesh.faces)
    nowhere, visual = np.zeros((count, 2)), mesh.visual
    if isinstance(visual, TextureVisuals):
        image, factor = _material(visual.material)
        tint = np.tile(factor, (count, 1))
        if image is None or visual.uv is None or len(visual.uv) != len(mesh.vertices):
            return nowhere, tint, None
        return visual.uv[corners], tint, image
    if isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        return nowhere, visual.vertex_colors[corners, :3] / 255, None
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        return nowhere, np.repeat(visual.face_colors[:, :3] / 255, 3, axis=0), None
    return nowhere, np.tile(GREY, (count, 1)), None


def _material(material) -> tuple[np.ndarray | None, np.ndarray]:
    """The image (H, W, 3) in [0, 1] and the colour factor (3,), sRGB, of a glTF or MTL material."""
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is not None:
        image = np.asarray(picture.convert("RGB"), np.float32) / 255
    factor = getattr(material, "baseColorFactor", None)  # trimesh gives uint8; glTF means it linear
    if factor is not None:
        color = np.power(np.asarray(factor[:3]) / 255, 1 / 2.2)
    else:
        diffuse = getattr(material, "diffuse", None)
        color = (
            np.asarray(diffuse[:3]) / 255
            if diffuse is not None
            else np.ones(3)
            if picture is not None
            else np.array(GREY)
        )
    return (image if picture is not None else None), color


def _texels_per_m(mesh: trimesh.Trimesh, coordinates: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """Texture resolution (F,) on each face."""
    if image is None:
        return np.ones(len(mesh.faces))
    a, b, c = (coordinates.reshape(-1, 3, 2)[:, i] for i in range(3))
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    texels = np.abs(ux * vy - uy * vx) / 2 * image.shape[0] * image.shape[1]
    return np.sqrt(texels / np.maximum(mesh.area_faces, 1e-12))


def _pyramid(image: np.ndarray) -> list[np.ndarray]:
    """The image in linear light, and its halvings down to one texel."""
    levels = [to_linear(image)]
    while min(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def _sample(pyramid: list[np.ndarray], uv: np.ndarray, blur_texels: np.ndarray) -> np.ndarray:
    """Colours (N, 3) at texture coordinates that repeat (v upwards), from the level that fits the blur."""
    level = np.log2(np.maximum(blur_texels, 1.0)).astype(int).clip(0, len(pyramid) - 1)
    colors = np.empty((len(uv), 3), np.float32)
    u, v = uv[:, 0] % 1.0, (1 - uv[:, 1]) % 1.0
    for index in np.unique(level):
        points, image = np.flatnonzero(level == index), pyramid[index]
        height, width = image.shape[:2]
        rows = (v[points] * height).astype(int).clip(0, height - 1)
        columns = (u[points] * width).astype(int).clip(0, width - 1)
        colors[points] = image[rows, columns]
    return colors
