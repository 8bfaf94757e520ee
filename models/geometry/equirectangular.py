"""Geometry of equirectangular panoramas, as plain functions on torch tensors.

Width = 2·height; row 0 looks to the zenith, the centre column forward; pixel centres lie at half-integers. World axes
are right-handed: x forward, y left, z up. For column u and row v of an H×W panorama

    longitude θ = π − 2π (u + ½) / W        (positive to the left)
    latitude  φ = π/2 − π (v + ½) / H
    ray         = (cos φ cos θ, cos φ sin θ, sin φ)

Depth is the distance along the ray, in metres. Tensors keep their device and dtype; what is narrower than float32 is
computed in float32, since bfloat16 cannot count the columns of a panorama. Tensors that functions remember between
calls (`remembered`) are shared: do not write to them.
"""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

Device = torch.device | str | None

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def remembered(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keeps the results of the last calls, by hashable arguments: for constant tensors of a size and a device."""

    @lru_cache(maxsize=16)
    def build(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could never enter a gradient
            return function(*args, **kwargs)

    return cast(Callable[Arguments, Result], wraps(function)(build))


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """What maps of `dtype` are computed in: float32, or float64 for that."""
    return torch.promote_types(dtype, torch.float32)


def latitudes(height: int, *, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Latitude of every row in radians, (H,), from near π/2 to near −π/2."""
    rows = torch.arange(height, device=device, dtype=working_dtype(dtype))
    return (math.pi / 2 - math.pi * (rows + 0.5) / height).to(dtype)


def longitudes(width: int, *, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Longitude of every column in radians, (W,), from near π (left edge) to near −π."""
    columns = torch.arange(width, device=device, dtype=working_dtype(dtype))
    return (math.pi - 2 * math.pi * (columns + 0.5) / width).to(dtype)


def rays(height: int, width: int, *, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit ray of every pixel, (H, W, 3)."""
    exact = working_dtype(dtype)
    phi = latitudes(height, device=device, dtype=exact)[:, None]
    theta = longitudes(width, device=device, dtype=exact)[None, :]
    axes = [phi.cos() * theta.cos(), phi.cos() * theta.sin(), phi.sin().expand(height, width)]
    return torch.stack(axes, dim=-1).to(dtype)


def solid_angle(height: int, width: int, *, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Solid angle of every pixel in steradians, (H, W); exact, so that it sums to 4π.

    The pixel of row v spans latitudes φ₁ > φ₂ and 2π/W of longitude: Ω = 2π/W · (sin φ₁ − sin φ₂),
    which is 4π/W · cos φ · sin(π / 2H) at its centre φ, a form without cancellation.
    """
    phi = latitudes(height, device=device, dtype=working_dtype(dtype))
    rows = 4 * math.pi / width * math.sin(math.pi / (2 * height)) * phi.cos()
    return rows.to(dtype)[:, None].expand(height, width)


def point_map(depth_m: Tensor) -> Tensor:
    """Ray distances (..., H, W) to points (..., H, W, 3) in metres."""
    height, width = depth_m.shape[-2:]
    directions = rays(height, width, device=depth_m.device, dtype=working_dtype(depth_m.dtype))
    return (depth_m[..., None] * directions).to(depth_m.dtype)


def directions_to_pixels(directions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Directions (..., 3), of any length, to their continuous column and row, pixel centres at integers + ½.

    Columns lie in [0, W], rows in [0, H]; the columns 0 and W are the same meridian. At least float32.
    """
    x, y, z = directions.to(working_dtype(directions.dtype)).unbind(dim=-1)
    theta = torch.atan2(y, x)
    phi = torch.atan2(z, torch.hypot(x, y))
    return (math.pi - theta) * width / (2 * math.pi), (math.pi / 2 - phi) * height / math.pi


def sample(panorama: Tensor, columns: Tensor, rows: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Values of panoramas (B, C, H, W) at continuous pixel positions (h, w) or (B, h, w): (B, C, h, w).

    Neighbours are taken around the ±180° seam and over the poles (where a row continues half a turn away).
    Depth should be sampled with mode "nearest": interpolated edges would give distances that no object has.
    """
    height, width = panorama.shape[-2:]
    return sample_grid(panorama, sampling_grid(columns, rows, height, width), mode=mode)


def sampling_grid(columns: Tensor, rows: Tensor, height: int, width: int) -> Tensor:
    """Pixel positions (..., h, w) as the grid (..., h, w, 2) that `sample_grid` takes, for panoramas of that size."""
    x = (columns % width + 1) / (width + 2) * 2 - 1
    y = (rows + 1) / (height + 2) * 2 - 1
    return torch.stack([x, y], dim=-1)


def sample_grid(panorama: Tensor, grid: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Values of panoramas (B, C, H, W) at a `sampling_grid` (h, w, 2), or one for each of them (B, h, w, 2)."""
    if mode != "nearest" and not panorama.is_floating_point():
        raise ValueError(f"only mode nearest can sample {panorama.dtype}, not {mode}")
    padded = pad_sphere(panorama, 1).to(working_dtype(panorama.dtype))
    grid = grid.to(padded.dtype).expand(len(panorama), *grid.shape[-3:])
    return F.grid_sample(padded, grid, mode=mode, padding_mode="border", align_corners=False).to(panorama.dtype)


def pad_sphere(panorama: Tensor, pixels: int) -> Tensor:
    """Pads maps (..., H, W) by their true neighbours: around the seam, and over the poles half a turn away."""
    top, bottom = panorama[..., :pixels, :].flip(-2), panorama[..., -pixels:, :].flip(-2)
    half_turn = panorama.shape[-1] // 2
    tall = torch.cat([top.roll(half_turn, -1), panorama, bottom.roll(half_turn, -1)], dim=-2)
    return torch.cat([tall[..., -pixels:], tall, tall[..., :pixels]], dim=-1)


def resize(panorama: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of panoramas (B, C, H, W), wrapped around; meant for enlarging: it does not smooth."""
    if panorama.shape[-2:] == (height, width):
        return panorama
    rows = (torch.arange(height, device=panorama.device) + 0.5) * (panorama.shape[-2] / height)
    columns = (torch.arange(width, device=panorama.device) + 0.5) * (panorama.shape[-1] / width)
    return sample(panorama, *torch.meshgrid(columns, rows, indexing="xy"))


def roll_yaw(panorama: Tensor, columns: int) -> Tensor:
    """Turns maps (..., H, W) by whole columns, without loss: the scene moves right by 360°·columns/W."""
    return panorama.roll(columns, dims=-1)


def rotate(panorama: Tensor, rotation: Tensor, *, mode: str = "bilinear") -> Tensor:
    """The panorama (B, C, H, W) that a camera turned by `rotation` (3, 3) or (B, 3, 3) would see.

    `rotation` takes directions of the turned camera's frame to those of the given panorama's: the value at ray r of
    the result is the panorama's at rotation·r. Ray distances do not change under it, so it turns depth as well.
    """
    height, width = panorama.shape[-2:]
    rotation = rotation.to(panorama.device, working_dtype(panorama.dtype))
    target_rays = rays(height, width, device=panorama.device, dtype=rotation.dtype)
    directions = torch.einsum("...ij,hwj->...hwi", rotation, target_rays)
    return sample(panorama, *directions_to_pixels(directions, height, width), mode=mode)


def rotation_matrix(*, yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> Tensor:
    """Camera-to-world rotation Rz(yaw)·Ry(−pitch)·Rx(roll), (3, 3) float64.

    Positive yaw looks to the left, positive pitch up, positive roll leans the camera to the right.
    """
    yaw, pitch, roll = (math.radians(angle) for angle in (yaw_deg, -pitch_deg, roll_deg))
    z = torch.tensor(
        [[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]], dtype=torch.float64
    )
    y = torch.tensor(
        [[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]], dtype=torch.float64
    )
    x = torch.tensor(
        [[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]], dtype=torch.float64
    )
    return z @ y @ x
