"""The Cassini projection, in which Deep360 is stored: an equirectangular panorama whose poles lie left and right.

An H×W image with H = 2W. For column u and row v (pixel centres at half-integers, axes as in `equirectangular`)

    arcsin y      = π/2 − π (u + ½) / W         (the left edge looks left)
    atan2(z, x)   = π − 2π (v + ½) / H          (from behind over the zenith, forward in the middle, to below)

So its transpose is an equirectangular panorama whose y and z have changed places, which also undoes itself.
"""

import torch
from torch import Tensor

from .equirectangular import directions_to_pixels, rays, remembered, sample_grid, sampling_grid, working_dtype


def cassini_to_erp(cassini: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Cassini images (B, C, 2H, H) to panoramas (B, C, H, 2H). Depth (ray distances) wants mode "nearest"."""
    return _exchange_poles(cassini.transpose(-1, -2), mode)


def _exchange_poles(panorama: Tensor, mode: str) -> Tensor:
    height, width = panorama.shape[-2:]
    if width != 2 * height:
        raise ValueError(f"expected twice as many pixels around as from pole to pole, not {width} and {height}")
    grid = _exchanged_grid(height, width, panorama.device, working_dtype(panorama.dtype))
    return sample_grid(panorama, grid, mode=mode)


@remembered
def _exchanged_grid(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    exchanged = rays(height, width, dtype=torch.float64)[..., [0, 2, 1]]
    return sampling_grid(*directions_to_pixels(exchanged, height, width), height, width).to(device, dtype)
