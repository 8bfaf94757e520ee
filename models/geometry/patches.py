"""Perspective views of panoramas, and panoramas put together from them.

A view's camera has the axes of the world before it is turned (x forward, y left, z up) and looks through an image
plane at x = 1: the centre of column u and row v of an h×w image with horizontal field of view f is at

    y = (1 − 2 (u + ½) / w) · tan(f / 2),      z = (h / w) (1 − 2 (v + ½) / h) · tan(f / 2)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .equirectangular import (
    directions_to_pixels,
    rays,
    remembered,
    rotation_matrix,
    sample_grid,
    sampling_grid,
    working_dtype,
)


class View(NamedTuple):
    """Where a camera looks: to the left, up, and leaning to the right (see `equirectangular.rotation_matrix`)."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def rotation(self) -> Tensor:
        """Camera-to-world rotation, (3, 3) float64."""
        return rotation_matrix(**self._asdict())


def _icosahedron() -> tuple[View, ...]:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, one, other) for one in (1, -1) for other in (golden, -golden)]
    vertices = [corner[turn:] + corner[:turn] for turn in range(3) for corner in corners]
    return tuple(
        View(math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))) for x, y, z in vertices
    )


ICOSAHEDRON = _icosahedron()
"""Views to the 12 vertices of an icosahedron, as evenly spread as can be; square ones of 75° cover the sphere."""


def perspective_views(
    panorama: Tensor,
    views: Sequence[View],
    size: tuple[int, int],
    *,
    fov_deg: float = 90.0,
    mode: str = "bilinear",
) -> Tensor:
    """What cameras at the centre of panoramas (B, C, H, W) see: (B, N, C, h, w) for N views of `size` (h, w).

    `fov_deg` is the horizontal field of view; pixels are square. Ray distances stay ray distances.
    """
    batch, channels, height, width = panorama.shape
    grid = _views_grid(tuple(views), size, fov_deg, height, width, panorama.device, working_dtype(panorama.dtype))
    maps = panorama.flatten(0, 1)[:, None]
    chunks = maps.split(1) if maps.device.type == "cpu" else (maps,)  # a single map stays in the cache of a CPU
    stacked = torch.cat([sample_grid(chunk, grid, mode=mode) for chunk in chunks])  # the views one below the other
    return stacked.view(batch, channels, len(views), *size).transpose(1, 2)


def view_directions(views: Sequence[View], size: tuple[int, int], *, fov_deg: float = 90.0) -> Tensor:
    """Direction of every pixel of every view in the panorama's axes, (N, h, w, 3) float64; not of unit length."""
    rotations = torch.stack([view.rotation() for view in views])
    return torch.einsum("nij,hwj->nhwi", rotations, image_plane(size, fov_deg=fov_deg))


def image_plane(size: tuple[int, int], *, fov_deg: float) -> Tensor:
    """The points (1, y, z) of a camera's image plane, (h, w, 3) float64; ValueError if `fov_deg` is not in (0, 180)."""
    if not 0 < fov_deg < 180:
        raise ValueError(f"a perspective view must span more than 0° and less than 180°, not {fov_deg}°")
    height, width = size
    half_width = math.tan(math.radians(fov_deg) / 2)
    left = (1 - (2 * torch.arange(width, dtype=torch.float64) + 1) / width) * half_width
    up = (1 - (2 * torch.arange(height, dtype=torch.float64) + 1) / height) * half_width * height / width
    return torch.stack([torch.ones(size, dtype=torch.float64), *torch.meshgrid(left, up, indexing="xy")], dim=-1)


@remembered
def _views_grid(
    views: tuple[View, ...],
    size: tuple[int, int],
    fov_deg: float,
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    directions = view_directions(views, size, fov_deg=fov_deg).flatten(0, 1)
    grid = sampling_grid(*directions_to_pixels(directions, height, width), height, width)
    return grid.to(device, dtype)


def fuse_views(
    images: Tensor, views: Sequence[View], height: int, *, fov_deg: float = 90.0, mode: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """Overlapping views (B, N, C, h, w) to panoramas (B, C, H, 2H), and the weight (H, 2H) that every pixel got.

    Where views overlap their values are averaged, weighted by closeness to the middle of the view (1 there, 0 at its
    border), so that no border shows. Pixels that no view sees have weight 0 and value 0.
    """
    batch, _, channels, *size = images.shape
    dtype = working_dtype(images.dtype)
    total = images.new_zeros(batch, channels, height, 2 * height, dtype=dtype)
    weights = images.new_zeros(height, 2 * height, dtype=dtype)
    for image, view in zip(images.unbind(dim=1), views, strict=True):
        grid, weight = _sphere_in_view(view, (size[0], size[1]), fov_deg, height, images.device, dtype)
        seen = F.grid_sample(image.to(dtype), grid.expand(batch, -1, -1, -1), mode, "border", align_corners=False)
        total, weights = total + weight * seen, weights + weight
    return (total / weights.where(weights > 0, 1.0)).to(images.dtype), weights


@remembered
def _sphere_in_view(
    view: View, size: tuple[int, int], fov_deg: float, height: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Where in a view every pixel of a panorama is seen, from −1 to 1 (H, 2H, 2), and with what weight (H, 2H)."""
    x, y, z = (rays(height, 2 * height, dtype=torch.float64) @ view.rotation()).unbind(dim=-1)
    half_width = math.tan(math.radians(fov_deg) / 2)
    ahead = x.clamp_min(1e-9)
    grid = torch.stack([-y / (ahead * half_width), -z / (ahead * half_width * size[0] / size[1])], dim=-1)
    weight = (1 - grid.abs()).clamp_min(0).prod(dim=-1) * (x > 0)
    return grid.clamp(-2, 2).to(device, dtype), weight.to(device, dtype)
