"""Augmentation of panoramas: what is drawn for a sample, and how a batch is changed accordingly, on any device.

The photometric part imitates what cameras and codecs do to real footage (exposure, white balance, haze, blur, noise,
compression), which is what carries a model from clean synthetic looks to the field. The geometric part is exact on
the sphere: ray distance does not change when a camera turns or is mirrored.

What becomes of a sample depends on what was drawn for it alone, not on the others of its batch.
"""

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import conv2d, pad

from .jpeg import compressed

AUGMENTATION = np.dtype(
    [
        ("columns", "i4"),  # turn to the right
        ("mirrored", "?"),
        ("balance", "f8", 3),  # factor a channel
        *((name, "f8") for name in ("saturation", "contrast", "exposure")),  # factors
        ("gamma", "f8"),
        ("veil", "f8", 3),  # colour of the haze
        ("haze", "f8"),  # its part of the image; 0 for none
        ("sigma", "f8"),  # of the blur, in pixels; 0 for none
        ("noise", "f8"),  # standard deviation, 1 being full scale; 0 for none
        ("noise_seed", "u4"),
        ("quality", "i4"),  # of the JPEG; 0 for none
        ("cut", "i4", 4),  # where CutMix pastes another image: first row, rows, first column, columns
    ]
)
"""What is drawn for one sample."""

_GRAY = (0.299, 0.587, 0.114)
_BLUR_PER_HEIGHT = 1 / 150


def draw(strength: float, height: int, rng: Generator) -> np.ndarray:
    """Draws for one sample of height × 2·height, as an array () of `AUGMENTATION`.

    A turn by whole columns; half of the time a mirror; white balance, saturation, contrast, exposure and gamma; a veil
    of haze over a third of the images; each half of the time a blur of up to 1/150 of the height, noise of up to 0.06
    of full scale, and JPEG of a quality from 95 down to 95 − 70·strength. `strength` scales all but turn and mirror; 0
    leaves these alone. Then the cut of CutMix (arXiv 1905.04899): a rectangle of the panorama's shape, whose area is
    uniform in (0, 1), at any rows that hold it, and any columns: it goes on behind the seam.
    """
    drawn = np.zeros((), AUGMENTATION)
    drawn["columns"], drawn["mirrored"] = rng.integers(2 * height), rng.random() < 0.5
    drawn["balance"] = np.exp(rng.normal(0, 0.15 * strength, 3))
    drawn["saturation"] = max(0.0, 1 + rng.normal(0, 0.4 * strength))
    drawn["contrast"] = np.exp(rng.normal(0, 0.25 * strength))
    drawn["exposure"] = np.exp(rng.normal(0, 0.3 * strength))
    drawn["gamma"] = np.exp(rng.normal(0, 0.25 * strength))
    if rng.random() < 0.33:
        drawn["veil"] = rng.uniform(0.5, 1) + rng.normal(0, 0.05, 3)
        drawn["haze"] = rng.uniform(0, 0.4 * strength)
    if rng.random() < 0.5:
        drawn["sigma"] = rng.uniform(0, strength * height * _BLUR_PER_HEIGHT)
    if rng.random() < 0.5:
        drawn["noise"], drawn["noise_seed"] = rng.uniform(0, 0.06 * strength), rng.integers(2**32)
    if rng.random() < 0.5 and strength > 0:
        drawn["quality"] = int(95 - rng.uniform(0, 70 * min(strength, 1.0)))
    side = np.sqrt(rng.random())
    rows, columns = int(np.ceil(side * height)), int(np.ceil(side * 2 * height))
    drawn["cut"] = rng.integers(height - rows + 1), rows, rng.integers(2 * height), columns
    return drawn


def cut_mask(cut: np.ndarray, height: int) -> Tensor:
    """True in the rectangle (first row, rows, first column, columns) of a panorama, around the seam: (H, 2H) bool."""
    row, rows, column, columns = cut.tolist()
    mask = torch.zeros(height, 2 * height, dtype=torch.bool)
    mask[row : row + rows, :columns] = True
    return mask.roll(column, 1)


def turn(images: Tensor, drawn: np.ndarray) -> Tensor:
    """Turns, then mirrors the images (or maps) (B, H, W, …) as was drawn for them, (B,) of `AUGMENTATION`."""
    turned = []
    for image, columns, mirrored in zip(images, drawn["columns"].tolist(), drawn["mirrored"].tolist(), strict=True):
        rolled = image.roll(columns, 1)
        turned.append(rolled.flip(1) if mirrored else rolled)
    return torch.stack(turned)


@torch.no_grad()
def photometric(rgb_bchw: Tensor, drawn: np.ndarray) -> Tensor:
    """Changes the looks of uint8 images (B, 3, H, W) as was drawn for them, (B,) of `AUGMENTATION`."""
    image = _haze(_colour(rgb_bchw, drawn), drawn)
    if (blurred := np.flatnonzero(drawn["sigma"])).size:
        image[blurred] = wrapped_blur(image[blurred], drawn["sigma"][blurred])
    if (noisy := np.flatnonzero(drawn["noise"])).size:
        noise = gaussian_noise(image.shape[1:], drawn["noise_seed"][noisy], image.device)
        image[noisy] += noise.mul_(_each(drawn["noise"][noisy], image))
    rgb = image.clamp_(0, 1).mul_(255).add_(0.5).to(torch.uint8)
    if (packed := np.flatnonzero(drawn["quality"])).size:
        rgb[packed] = compressed(rgb[packed], drawn["quality"][packed])
    return rgb


def _each(values: np.ndarray, like: Tensor) -> Tensor:
    """A number an image (B,), or one a channel (B, 3), that multiplies images (B, 3, H, W)."""
    return torch.from_numpy(values.astype(np.float32)).to(like.device).reshape(len(values), -1, 1, 1)


def _colour(rgb_bchw: Tensor, drawn: np.ndarray) -> Tensor:
    """White balance, saturation, contrast about the mean gray, and exposure, then gamma; in [0, 1].

    All but gamma is one linear map: gray is a weighted sum of the channels, and so is its mean, of their exact sums.
    """
    pixels = rgb_bchw.shape[2] * rgb_bchw.shape[3]
    gain = drawn["contrast"] * drawn["exposure"] / 255
    gray_weights = np.array(_GRAY) * drawn["balance"]
    own = _each(drawn["balance"] * (drawn["saturation"] * gain)[:, None], rgb_bchw)
    of_gray = _each(gray_weights * ((1 - drawn["saturation"]) * gain)[:, None], rgb_bchw)
    of_mean = _each(gray_weights * ((1 - drawn["contrast"]) * drawn["exposure"] / 255 / pixels)[:, None], rgb_bchw)
    sums = rgb_bchw.sum((2, 3), dtype=torch.int64)[..., None, None]
    offset = of_mean[:, 0:1] * sums[:, 0:1] + of_mean[:, 1:2] * sums[:, 1:2] + of_mean[:, 2:3] * sums[:, 2:3]
    image = rgb_bchw.float()
    gray = image[:, 0:1] * of_gray[:, 0:1] + offset
    gray.addcmul_(image[:, 1:2], of_gray[:, 1:2]).addcmul_(image[:, 2:3], of_gray[:, 2:3])
    return image.mul_(own).add_(gray).clamp_(0, 1).pow_(_each(drawn["gamma"], image))


def _haze(image: Tensor, drawn: np.ndarray) -> Tensor:
    veil = _each(drawn["veil"] * drawn["haze"][:, None], image)
    return image.mul_(_each(1 - drawn["haze"], image)).add_(veil)


def wrapped_blur(image: Tensor, sigma: np.ndarray) -> Tensor:
    """Gaussian blur of panoramas (B, C, H, W), each with its own `sigma` in pixels, continued around the seam."""
    radius = 1 + int(4 * sigma.max())
    offsets, sigmas = np.arange(-radius, radius + 1), np.maximum(sigma, 1e-3)[:, None]
    weights = np.exp(-0.5 * (offsets / sigmas) ** 2) * (abs(offsets) <= 1 + 4 * sigmas)  # none of the widest one's
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32).repeat(image.shape[1], 0)
    kernel = torch.from_numpy(weights).to(image.device)
    planes = image.reshape(1, -1, *image.shape[2:])
    across = conv2d(pad(planes, (radius, radius, 0, 0), "circular"), kernel[:, None, None, :], groups=len(kernel))
    down = conv2d(pad(across, (0, 0, radius, radius), "reflect"), kernel[:, None, :, None], groups=len(kernel))
    return down.reshape(image.shape)


def gaussian_noise(shape: torch.Size, seeds: np.ndarray, device: torch.device) -> Tensor:
    """Standard normal numbers (B, *shape), those of an image from its seed (uint32) alone, alike on all devices.

    A counter and the seed go through an integer hash (lowbias32 of C. Wellons); 23 bits of it, as a number between
    −1 and 1, through the inverse error function.
    """
    seed = torch.from_numpy(seeds.view(np.int32).copy()).to(device)
    bits = torch.arange(shape.numel(), dtype=torch.int32, device=device) + seed[:, None]  # wraps around, as it should
    bits.bitwise_xor_((bits >> 16) & 0xFFFF).mul_(0x7FEB352D)
    bits.bitwise_xor_((bits >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    bits.bitwise_xor_((bits >> 16) & 0xFFFF).bitwise_and_(0x7FFFFF)
    return bits.float().add_(0.5).mul_(2**-22).sub_(1).erfinv_().mul_(2**0.5).reshape(len(seeds), *shape)
