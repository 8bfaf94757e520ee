"""Surface normals of equirectangular depth maps.

The normal of a pixel is the cross product of two chords of the surface: between the points left and right of it, and
between those above and below. That is exact on planes, and on spheres around the camera. In the pixel's own frame
(e_θ to the left, e_φ up, r outward; right-handed) with the distances d of its neighbours east, west, north and south,

    p = (d_E − d_W) / (d_E + d_W),    q = (d_N − d_S) / (d_N + d_S),    Δ = 2π/W,    δ = π/H
    n ∝ ( p q cot δ sin φ tan Δ/2 − p (cos²φ cos Δ + sin²φ) / (cos φ sin Δ),    q cot δ,    −1 )

No difference of nearly equal points is taken, so rows at the poles are as good as others in float32; p and q
lie in (−1, 1), so nothing can divide by zero. Neighbours wrap around the seam, and over the poles.
"""

import math

import torch
from torch import Tensor

from .equirectangular import latitudes, longitudes, pad_sphere, remembered

Frame = tuple[Tensor, Tensor, Tensor]
"""Components along e_θ, e_φ and r of every pixel, (..., H, W) each."""


def local_normals(depth_m: Tensor) -> Frame:
    """Unit normals of distances (..., H, W) > 0, facing the camera, in the frames of the pixels."""
    padded = pad_sphere(depth_m, 1)
    east, west = padded[..., 1:-1, 2:], padded[..., 1:-1, :-2]
    north, south = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    p, q = (east - west) / (east + west), (north - south) / (north + south)
    height, width = depth_m.shape[-2:]
    tilt, slope, rise = _coefficients(height, width, depth_m.device, depth_m.dtype)
    up = q * rise
    left = p * (up * tilt - slope)
    length = (left.square() + up.square() + 1).sqrt()
    return left / length, up / length, -1 / length


@remembered
def _coefficients(height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """sin φ tan Δ/2 and (cos²φ cos Δ + sin²φ) / (cos φ sin Δ), (H, 1) each, and cot δ."""
    phi = latitudes(height, dtype=torch.float64)[:, None]
    step = 2 * math.pi / width
    slope = (phi.cos().square() * math.cos(step) + phi.sin().square()) / (phi.cos() * math.sin(step))
    tilt = phi.sin() * math.tan(step / 2)
    return tilt.to(device, dtype), slope.to(device, dtype), 1 / math.tan(math.pi / height)


def to_world_axes(vectors: Frame) -> Frame:
    """Vectors in the frames of the pixels to their x, y and z, (..., H, W) each."""
    left, up, out = vectors
    height, width = left.shape[-2:]
    sin_phi, cos_phi, sin_theta, cos_theta = _turns(height, width, left.device, left.dtype)
    ahead = cos_phi * out - sin_phi * up  # horizontal, away from the camera
    return cos_theta * ahead - sin_theta * left, sin_theta * ahead + cos_theta * left, sin_phi * out + cos_phi * up


@remembered
def _turns(height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sine and cosine of every latitude (H, 1), and of every longitude (W,)."""
    phi, theta = latitudes(height, dtype=torch.float64)[:, None], longitudes(width, dtype=torch.float64)
    sin_phi, cos_phi, sin_theta, cos_theta = (
        wave.to(device, dtype) for wave in (phi.sin(), phi.cos(), theta.sin(), theta.cos())
    )
    return sin_phi, cos_phi, sin_theta, cos_theta
