"""Perspective pictures with a truth: disparity of a stereo pair's left picture, or depth along the axis.

    stereo         left/NAME.*              disparity/NAME.pfm or .png
                   image_2/N_10.png         disp_occ_0/N_10.png, disp_noc_0/N_10.png     KITTI 2015
                   colored_0/N_10.png       disp_occ/N_10.png, disp_noc/N_10.png         KITTI 2012 (also image_0)
    perspective    image/NAME.*             depth/NAME.png, .exr, .npy, .pfm; intrinsics/NAME.txt or intrinsics.txt
                   image/NAME.png           groundtruth_depth/NAME.png; intrinsics/NAME.txt    KITTI's depth selection

KITTI's may lie in `training/`, or `val_selection_cropped/`. A 16-bit PNG counts in 1/256 pixel or metre, unless it is
said otherwise, and 0 is none; other files hold pixels or metres, and what is not positive and finite is none.
Intrinsics are the nine numbers of a camera matrix, or fx fy cx cy. Splits of `stereo` are KITTI's `occ` and `noc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np

from .base import DataSet, DatasetError, Entry, key_of, list_file, listed_pairs, locked_below
from .files import read_exr_m, read_npy_m, read_pfm, read_png_m, read_rgb

KITTI_UNITS = 256.0
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """A picture (H, W, 3) uint8, and its truth (H, W) float32: disparity in pixels or depth in metres, or nan."""

    key: str
    rgb: np.ndarray
    truth: np.ndarray
    focal_px: float | None = None
    baseline_m: float | None = None


@dataclass(frozen=True)
class PictureSet(DataSet[Picture]):
    """Pictures as files. A split is one of the set's own, or a list file of pairs `IMAGE TRUTH`."""

    name: str
    is_stereo: bool
    images: tuple[str, ...]  # globs below the root
    folders: tuple[str, ...]  # that all may lie in
    splits: tuple[str, ...] = ()
    png_units: float = KITTI_UNITS  # of a pixel or metre

    def find(self, root: Path, split: str | None = None) -> list[Entry]:
        if not root.is_dir():
            raise DatasetError(root, "no such folder")
        if split and split not in self.splits:
            if not (listed := list_file(root, split)):
                own = f"; its own splits are {', '.join(self.splits)}" if self.splits else ""
                raise DatasetError(root, f"no split {split!r}, which is no list file, either{own}")
            found = [self._entry(root, image, [PurePosixPath(truth)]) for image, truth in listed_pairs(listed)]
        else:
            found = [self._entry(root, image, list(self._truths(image, split))) for image in self._images(root)]
        if not found:
            expected = " or ".join(self.images)
            raise DatasetError(root, f"holds no picture of {self.name}: expected {expected} there{locked_below(root)}")
        return found

    def _images(self, root: Path) -> Iterator[PurePosixPath]:
        for folder, pattern in product(self.folders, self.images):
            found = (path.relative_to(root) for path in root.glob(folder + pattern))
            if images := sorted(PurePosixPath(path) for path in found if path.suffix.lower() in _PICTURES):
                yield from images
                return

    def _truths(self, image: PurePosixPath, split: str | None) -> Iterator[PurePosixPath]:
        """Where the truth of an image may lie, the likeliest first."""
        root, folder = image.parent.parent, image.parent.name
        if self.is_stereo and folder == "left":
            if split:
                raise DatasetError(str(root), f"has no split {split!r}: left/ and disparity/ are one")
            yield from (root / "disparity" / f"{image.stem}{suffix}" for suffix in (".pfm", ".png"))
        elif self.is_stereo:
            yield root / f"disp_{split or 'occ'}{'_0' if folder == 'image_2' else ''}" / image.name
        else:
            kitti = image.name.replace("_sync_image_", "_sync_groundtruth_depth_")
            yield from (root / "depth" / f"{image.stem}{suffix}" for suffix in (".png", ".exr", ".npy", ".pfm"))
            yield root / "groundtruth_depth" / kitti

    def _cameras(self, image: PurePosixPath) -> Iterator[PurePosixPath]:
        root, number = image.parent.parent, image.stem.removesuffix("_10")
        if self.is_stereo:
            yield from (root / folder / f"{number}.txt" for folder in ("calib_cam_to_cam", "calib"))
        else:
            yield from (root / "intrinsics" / f"{image.stem}.txt", root / "intrinsics.txt")

    def _entry(self, root: Path, image: PurePosixPath, truths: list[PurePosixPath]) -> Entry:
        truth = next((truth for truth in truths if (root / truth).is_file()), truths[0])
        camera = next((str(camera) for camera in self._cameras(image) if (root / camera).is_file()), "")
        return Entry(key_of(image), str(image), str(truth), camera=camera)

    def read(self, root: Path, entry: Entry) -> Picture:
        rgb, truth = read_rgb(root / entry.image), self._read_truth(root / entry.depth)
        if rgb.shape[:2] != truth.shape:
            sizes = f"{truth.shape[1]}×{truth.shape[0]}, its picture {rgb.shape[1]}×{rgb.shape[0]}"
            raise DatasetError(root / entry.depth, f"is {sizes}", "bad_shape")
        truth = np.where(np.isfinite(truth) & (truth > 0), truth, np.float32(np.nan))
        camera = _camera(root / entry.camera, PurePosixPath(entry.image).parent.name) if entry.camera else (None, None)
        return Picture(entry.key, rgb, truth, *camera)

    def _read_truth(self, path: Path) -> np.ndarray:
        if path.suffix == ".png":
            return read_png_m(path, self.png_units)
        readers = {".pfm": read_pfm, ".npy": read_npy_m, ".exr": read_exr_m}
        if path.suffix not in readers:
            raise DatasetError(path, f"is none of .png {' '.join(readers)}", "bad_depth")
        return readers[path.suffix](path)


def _camera(path: Path, folder: str) -> tuple[float, float | None]:
    """Focal length in pixels and, of a stereo pair, the baseline in metres."""
    try:
        text = path.read_text()
        rows = dict(re.findall(r"^(P\w*\d+):(.*)$", text, re.MULTILINE))
        if not rows:
            return _checked(float(text.split()[0])), None
        pair = (0, 1) if folder == "image_0" else (2, 3)
        left, right = ([float(v) for v in rows.get(f"P{n}", rows.get(f"P_rect_{n:02}", "")).split()] for n in pair)
        return _checked(left[0]), _checked((left[3] - right[3]) / left[0])
    except (OSError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DatasetError(path, f"is no calibration: {' '.join(str(error).split())}", "bad_camera") from error


def _checked(value: float) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"a focal length or baseline of {value:g}")
    return value


STEREO = PictureSet(
    name="stereo",
    is_stereo=True,
    images=("left/*", "image_2/*_10.png", "colored_0/*_10.png", "image_0/*_10.png"),
    folders=("", "training/"),
    splits=("occ", "noc"),
)
PERSPECTIVE = PictureSet(
    name="perspective", is_stereo=False, images=("image/*", "images/*"), folders=("", "val_selection_cropped/")
)
PICTURE_SETS = {one.name: one for one in (STEREO, PERSPECTIVE)}
