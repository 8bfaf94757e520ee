"""Panoramas to the six faces of a cube, and back.

Faces come in the order front, right, back, left, up, down, each as seen from the centre: the top of the upper face
lies behind the camera, the top of the lower face in front of it. Depth stays ray distance.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .equirectangular import rays, remembered, working_dtype
from .patches import View, perspective_views, view_directions

FACES = (View(0), View(-90), View(180), View(90), View(0, 90), View(0, -90))
"""Front, right, back, left, up, down."""


def erp_to_cubemap(panorama: Tensor, size: int, *, mode: str = "bilinear") -> Tensor:
    """Panoramas (B, C, H, W) to cube faces (B, 6, C, size, size)."""
    return perspective_views(panorama, FACES, (size, size), fov_deg=90, mode=mode)


def cubemap_to_erp(faces: Tensor, height: int, *, mode: str = "bilinear") -> Tensor:
    """Cube faces (B, 6, C, n, n) to panoramas (B, C, H, 2H). Near an edge, values of both faces are mixed."""
    if faces.shape[1] != len(FACES) or faces.shape[-1] != faces.shape[-2]:
        raise ValueError(f"expected six square faces (B, 6, C, n, n), not {tuple(faces.shape)}")
    if mode != "nearest" and not faces.is_floating_point():
        raise ValueError(f"only mode nearest can sample {faces.dtype}, not {mode}")
    exact = faces.to(working_dtype(faces.dtype))
    grid = _panorama_grid(height, faces.shape[-1], faces.device, exact.dtype)
    return _sample_row(_pad_faces(exact, mode), grid, mode).to(faces.dtype)


def _pad_faces(faces: Tensor, mode: str) -> Tensor:
    """Faces (B, 6, C, n, n) with a border of one pixel, in which the neighbouring faces go on."""
    batch, count, channels, size, _ = faces.shape
    grid = _border_grid(size, faces.device, faces.dtype)
    padded = _sample_row(faces, grid, mode).view(batch, channels, count, size + 2, size + 2).transpose(1, 2).clone()
    padded[..., 1:-1, 1:-1] = faces
    return padded


def _sample_row(faces: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Samples faces (B, 6, C, m, m), laid side by side, at a grid (h, w, 2): (B, C, h, w)."""
    row = torch.cat(faces.unbind(dim=1), dim=-1)
    return F.grid_sample(row, grid.expand(len(row), -1, -1, -1), mode, "border", align_corners=False)


@remembered
def _panorama_grid(height: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where the pixels of a panorama lie in a row of faces that have a border of one pixel."""
    face, column, row = _directions_to_faces(rays(height, 2 * height, dtype=torch.float64), size)
    return _row_grid(face, column + 1, row + 1, size + 2).to(device, dtype)


@remembered
def _border_grid(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where the pixels of faces with a border lie in a row of faces without, (6·(size + 2), size + 2, 2)."""
    wider_deg = math.degrees(2 * math.atan((size + 2) / size))
    directions = view_directions(FACES, (size + 2, size + 2), fov_deg=wider_deg).flatten(0, 1)
    face, column, row = _directions_to_faces(directions, size)
    return _row_grid(face, column.clamp(0.5, size - 0.5), row.clamp(0.5, size - 0.5), size).to(device, dtype)


def _directions_to_faces(directions: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (..., 3) to the index of their face, and continuous column and row in it, in [0, size]."""
    rotations = torch.stack([view.rotation() for view in FACES])
    seen = torch.einsum("nij,...i->...nj", rotations, directions)  # as the six cameras see them
    face = seen[..., 0].argmax(dim=-1)
    x, y, z = seen.gather(-2, face[..., None, None].expand(*face.shape, 1, 3)).squeeze(-2).unbind(dim=-1)
    return face, size / 2 * (1 - y / x), size / 2 * (1 - z / x)


def _row_grid(face: Tensor, column: Tensor, row: Tensor, size: int) -> Tensor:
    return torch.stack([2 * (face * size + column) / (len(FACES) * size) - 1, 2 * row / size - 1], dim=-1)
