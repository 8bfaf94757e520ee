"""Augmentation of panoramas, one at a time, on uint8 images; all chance comes from the given generator.

The photometric part imitates what cameras and codecs do to real footage (exposure, white balance, haze, blur, noise,
compression), which is what carries a model from clean synthetic looks to the field. The geometric part is exact on
the sphere: ray distance does not change when a camera turns or is mirrored.
"""

import cv2
import numpy as np
import simplejpeg
from numpy.random import Generator


def augment(rgb: np.ndarray, units: np.ndarray, strength: float, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turns and perhaps mirrors the image (H, W, 3) and its map (H, W) alike, then changes the image's looks.

    `strength` scales the photometric part: 0 none, 1 strong.
    """
    rgb, units = turn(rgb, units, rng)
    return photometric(rgb, strength, rng), units


def turn(rgb: np.ndarray, units: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random yaw by whole columns and, half of the time, a mirror."""
    columns = int(rng.integers(rgb.shape[1]))
    rgb, units = np.roll(rgb, columns, axis=1), np.roll(units, columns, axis=1)
    if rng.random() < 0.5:
        rgb, units = rgb[:, ::-1], units[:, ::-1]
    return np.ascontiguousarray(rgb), np.ascontiguousarray(units)


def photometric(rgb: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Random colour, haze, blur, noise and compression of an image (H, W, 3) uint8."""
    if strength <= 0:
        return rgb
    image = rgb.astype(np.float32) / 255
    image = _colour(image, strength, rng)
    image = _haze(image, strength, rng)
    image = _blur(image, strength, rng)
    image = _noise(image, strength, rng)
    return _compress((image.clip(0, 1) * 255 + 0.5).astype(np.uint8), strength, rng)


def _colour(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """White balance, saturation, contrast and exposure, then gamma."""
    image = image * np.exp(rng.normal(0, 0.15 * strength, 3)).astype(np.float32)
    gray = image @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = np.float32(max(0.0, 1 + rng.normal(0, 0.4 * strength)))
    image = gray[..., None] + saturation * (image - gray[..., None])
    contrast = np.float32(np.exp(rng.normal(0, 0.25 * strength)))
    image = (image - gray.mean()) * contrast + gray.mean()
    image = image * np.float32(np.exp(rng.normal(0, 0.3 * strength)))
    return image.clip(0, 1) ** np.float32(np.exp(rng.normal(0, 0.25 * strength)))


def _haze(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """A veil of one bright, nearly gray colour over a third of the images."""
    if rng.random() > 0.33:
        return image
    veil = rng.uniform(0.5, 1) + rng.normal(0, 0.05, 3)
    thickness = np.float32(rng.uniform(0, 0.4 * strength))
    return image * (1 - thickness) + (veil * thickness).astype(np.float32)


def _blur(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Half of the time, a Gaussian of a width that goes with the image's: up to 1/150 of its height."""
    if rng.random() > 0.5:
        return image
    return wrapped_blur(image, rng.uniform(0, strength * image.shape[0] / 150))


def wrapped_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a panorama (H, W, 3), continued around the seam; `sigma` in pixels."""
    border = 1 + int(4 * sigma)
    wide = cv2.copyMakeBorder(image, 0, 0, border, border, cv2.BORDER_WRAP)
    return cv2.GaussianBlur(wide, (0, 0), max(sigma, 1e-3))[:, border:-border]


def _noise(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Noise of every pixel and channel, with a standard deviation up to 0.06 of full scale."""
    if rng.random() > 0.5:
        return image
    return image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 0.06 * strength))


def _compress(rgb: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """JPEG and back, with a quality from 95 down to 95 − 70·strength, half of the time."""
    if rng.random() > 0.5:
        return rgb
    quality = int(95 - rng.uniform(0, 70 * min(strength, 1.0)))
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(rgb, quality, colorspace="RGB"))
