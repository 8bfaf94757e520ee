"""What a camera in the field does to a clean picture: haze, exposure, white balance, blur, noise, compression."""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg


@dataclass(frozen=True)
class FieldCamera:
    """The settings of one camera on one day; drawn once per panorama or video."""

    gain: float
    balance: tuple[float, float, float]
    contrast: float
    visibility_m: float  # at which haze has taken 63 % of the contrast
    haze_color: tuple[float, float, float]
    blur_px: float  # at 192 rows; grows with the image
    shot_noise: float
    jpeg_quality: int
    roll_rad: float
    pitch_rad: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "FieldCamera":
        warmth, green = rng.normal(0, 0.09), rng.normal(0, 0.03)
        grey = rng.uniform(0.55, 0.85)
        return cls(
            gain=float(2 ** rng.normal(0, 0.5)),
            balance=(1 + warmth, 1 + green, 1 - warmth),
            contrast=float(rng.uniform(0.75, 1.25)),
            visibility_m=float(np.exp(rng.uniform(np.log(40), np.log(1500)))),
            haze_color=(grey * 0.97, grey, grey * 1.03),
            blur_px=float(rng.uniform(0.0, 0.9)),
            shot_noise=float(rng.uniform(0.0, 0.035)),
            jpeg_quality=int(rng.integers(35, 90)),
            roll_rad=float(np.radians(np.clip(rng.normal(0, 1.5), -4, 4))),
            pitch_rad=float(np.radians(np.clip(rng.normal(0, 1.5), -4, 4))),
        )

    def develop(self, rgb: np.ndarray, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture (H, W, 3), uint8, that this camera takes, before compression; `rng` draws the noise."""
        color = np.power(rgb.astype(np.float32) / 255, 2.2)
        clear = np.exp(-np.minimum(depth_m, 4 * self.visibility_m) / self.visibility_m)[..., None]
        clear = np.where(np.isinf(depth_m)[..., None], np.float32(0.7), clear)
        color = color * clear + np.array(self.haze_color, np.float32) * (1 - clear)
        color = np.power(color * np.array(self.balance, np.float32) * self.gain, 1 / 2.2)
        color = 0.5 + (color - 0.5) * self.contrast
        color = self._blur(color.clip(0, 1).astype(np.float32))
        color += rng.standard_normal(color.shape, np.float32) * (0.3 + np.sqrt(color)) * self.shot_noise
        return (color.clip(0, 1) * 255 + 0.5).astype(np.uint8)

    def _blur(self, color: np.ndarray) -> np.ndarray:
        sigma = self.blur_px * color.shape[0] / 192
        if sigma < 0.2:
            return color
        wrap = int(3 * sigma) + 1
        wide = cv2.copyMakeBorder(color, 0, 0, wrap, wrap, cv2.BORDER_WRAP)
        return cv2.GaussianBlur(wide, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[:, wrap:-wrap]


def compressed(camera: FieldCamera, rgb: np.ndarray, depth_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The camera's picture after a round through JPEG."""
    developed = np.ascontiguousarray(camera.develop(rgb, depth_m, rng))
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(developed, quality=camera.jpeg_quality))
