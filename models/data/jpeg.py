"""What JPEG does to pictures, by batch on any device: the DCT of 8×8 blocks, rounded to the steps of a quality."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

_LUMINANCE = """
    16 11 10 16  24  40  51  61  12 12 14 19  26  58  60  55  14 13 16 24  40  57  69  56  14 17 22 29  51  87  80  62
    18 22 37 56  68 109 103  77  24 35 55 64  81 104 113  92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103  99
"""
_CHROMINANCE = """
    17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
_TABLES = np.stack([np.array(table.split(), np.int64).reshape(8, 8) for table in (_LUMINANCE, _CHROMINANCE)])
"""The steps at quality 50 (ITU-T T.81, annex K): of luminance, and of both chrominances."""

_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_DCT = [[math.cos(math.pi * k * (2 * n + 1) / 16) * math.sqrt((2 if k else 1) / 8) for n in range(8)] for k in range(8)]


def quantisation(quality: np.ndarray) -> np.ndarray:
    """The steps (B, 3, 8, 8) of Y, Cb and Cr at qualities (B,) from 1 to 100, as libjpeg makes them."""
    scale = np.where(quality < 50, 5000 // np.maximum(quality, 1), 200 - 2 * quality)
    return np.clip((_TABLES[[0, 1, 1]] * scale[:, None, None, None] + 50) // 100, 1, 255)


def compressed(rgb_bchw: Tensor, quality: np.ndarray) -> Tensor:
    """uint8 images (B, 3, H, W) as they come back from JPEG of their quality (B,), without chroma subsampling."""
    height, width = rgb_bchw.shape[2:]
    images = pad(rgb_bchw.float(), (0, -width % 8, 0, -height % 8), "replicate")
    steps = torch.from_numpy(quantisation(quality).astype(np.float32)).to(images.device)[:, :, None, :, None, :]
    dct = torch.tensor(_DCT, device=images.device)
    ycbcr = _mixed(images, _TO_YCBCR).round_()
    ycbcr[:, 0] -= 128  # the other two are already about 0
    of_rows = (ycbcr.reshape(-1, 8) @ dct.T).reshape(*ycbcr.shape[:2], -1, 8, ycbcr.shape[3])
    coefficients = (dct @ of_rows).unflatten(-1, (-1, 8))
    coefficients = coefficients.div_(steps).round_().mul_(steps)
    of_rows = dct.T @ coefficients.flatten(-2)
    back = (of_rows.reshape(-1, 8) @ dct).reshape(ycbcr.shape).round_().clamp_(-128, 127)
    y, cb, cr = back[:, 0] + 128, back[:, 1], back[:, 2]
    rgb = torch.stack([y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb], 1)
    return rgb.round_().clamp_(0, 255).to(torch.uint8)[:, :, :height, :width]


def _mixed(images: Tensor, weights: tuple[tuple[float, ...], ...]) -> Tensor:
    """Weighted sums of the channels of images (B, 3, H, W)."""
    first, second, third = images.unbind(1)
    return torch.stack([a * first + b * second + c * third for a, b, c in weights], 1)
