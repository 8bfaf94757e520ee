"""Tiny data sets on disk, in the layout of each kind, with known values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
from PIL import Image

from tests.footage import panorama

H, W = 8, 16


def rgb(seed: int, height: int = H) -> np.ndarray:
    return panorama(height, seed)


def depth_m(seed: int) -> np.ndarray:
    """Distances from 1 m to 12 m in steps that every format holds exactly."""
    rng = np.random.default_rng(seed)
    return (rng.integers(4, 48, (H, W)) / 4).astype(np.float32)


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 98, "subsampling": 0} if path.suffix == ".jpg" else {}))


def write_units(path: Path, values_m: np.ndarray, units_per_metre: float) -> None:
    """A 16-bit PNG; what is not finite becomes 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.rint(np.nan_to_num(values_m) * units_per_metre).astype(np.uint16))


def write_exr(path: Path, values_m: np.ndarray, channel: str = "Y") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {channel: values_m.astype(np.float32)}).write(str(path))


def airsim360(root: Path) -> list[int]:
    for number in (1, 2):
        folder = root / "raw_data_city" / "flight"
        write_image(folder / "cam_panorama" / f"panorama_{number}.png", rgb(number))
        (folder / "cam_distance").mkdir(exist_ok=True)
        np.save(folder / "cam_distance" / f"erp_distance_{number}.npy", depth_m(number))
    return [1, 2]


def stanford2d3d(root: Path) -> list[int]:
    for area, number in (("area_1", 3), ("area_5a", 4)):
        write_image(root / area / "pano/rgb" / f"camera_{number}_equirectangular_domain_rgb.png", rgb(number))
        name = f"camera_{number}_equirectangular_domain_depth.png"
        write_units(root / area / "pano/depth" / name, depth_m(number), 512)
    return [3, 4]


def matterport3d(root: Path) -> list[int]:
    write_image(root / "scene" / "0_spherical_1_emission_center_0.png", rgb(5))
    write_exr(root / "scene" / "0_spherical_1_depth_center_0.exr", depth_m(5))
    return [5]


def matterport3d_skybox(root: Path) -> list[int]:
    write_image(root / "scene/pano_skybox_color/abc.jpg", rgb(6))
    write_units(root / "scene/pano_depth/abc.png", depth_m(6), 4000)
    return [6]


def structured3d(root: Path) -> list[int]:
    for scene, number in (("scene_00000", 7), ("scene_03000", 8), ("scene_03300", 9)):
        folder = root / scene / "2D_rendering" / "12" / "panorama" / "full"
        write_image(folder / "rgb_rawlight.png", rgb(number))
        write_units(folder / "depth.png", depth_m(number), 1000)
    return [7, 8, 9]


LAYOUTS: dict[str, Callable[[Path], list[int]]] = {
    "airsim360": airsim360,
    "dap-test": airsim360,
    "stanford2d3d": stanford2d3d,
    "matterport3d": matterport3d,
    "matterport3d-skybox": matterport3d_skybox,
    "structured3d": structured3d,
}
"""Writers of whole equirectangular sets; each returns the seeds of its panoramas, in the order of their paths."""
