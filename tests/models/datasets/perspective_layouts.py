"""Tiny data sets of perspective pictures on disk, plain and as KITTI has them, with known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.models.datasets.layouts import write_image, write_units

H, W = 24, 40
FOCAL_PX, BASELINE_M = 50.0, 0.5


def truth(seed: int) -> np.ndarray:
    """From 2 to 20 in quarters, pixels or metres, growing downwards and with a step that moves with the seed."""
    rows = np.linspace(2, 16, H)[:, None] + np.zeros(W)
    rows[8 + seed : 12 + seed, 10:20] += 4
    return (np.rint(4 * rows) / 4).astype(np.float32)


def picture(seed: int) -> np.ndarray:
    """Red is 12 times the truth, a whole number."""
    rgb = np.full((H, W, 3), 40, np.uint8)
    rgb[..., 0] = 12 * truth(seed)
    return rgb


def write_pfm(path: Path, values: np.ndarray, order: str = "<") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Pf\n{values.shape[1]} {values.shape[0]}\n{'-1.0' if order == '<' else '1.0'}\n"
    path.write_bytes(head.encode() + values[::-1].astype(f"{order}f4").tobytes())


def calibration(left: int, right: int, prefix: str) -> str:
    rows = [f"calib_time: 09-Jan-2012\n{prefix.format(left)}: {FOCAL_PX} 0 20 5 0 {FOCAL_PX} 12 0 0 0 1 0"]
    rows.append(f"{prefix.format(right)}: {FOCAL_PX} 0 20 {5 - FOCAL_PX * BASELINE_M} 0 {FOCAL_PX} 12 0 0 0 1 0")
    return "\n".join(rows) + "\n"


def plain_stereo(root: Path) -> None:
    for seed in (0, 1):
        write_image(root / "left" / f"{seed}.png", picture(seed))
    write_pfm(root / "disparity" / "0.pfm", truth(0))
    write_units(root / "disparity" / "1.png", truth(1), 256)


def kitti_2015(root: Path) -> None:
    folder = root / "training"
    for seed in (0, 1):
        write_image(folder / "image_2" / f"00000{seed}_10.png", picture(seed))
        write_image(folder / "image_2" / f"00000{seed}_11.png", picture(seed))  # the next frame, without truth
        for kind in ("occ", "noc"):
            values = truth(seed).copy()
            values[: 12 if kind == "noc" else 4] = 0
            write_units(folder / f"disp_{kind}_0" / f"00000{seed}_10.png", values, 256)
        camera = folder / "calib_cam_to_cam" / f"00000{seed}.txt"
        camera.parent.mkdir(exist_ok=True)
        camera.write_text(calibration(2, 3, "P_rect_0{}"))


def kitti_2012(root: Path) -> None:
    write_image(root / "image_0" / "000000_10.png", picture(0))
    write_units(root / "disp_occ" / "000000_10.png", truth(0), 256)
    (root / "calib").mkdir()
    (root / "calib" / "000000.txt").write_text(calibration(0, 1, "P{}"))


def plain_perspective(root: Path) -> None:
    for seed, suffix in enumerate(("png", "npy", "pfm")):
        write_image(root / "images" / f"{seed}.jpg", picture(seed))
        path = root / "depth" / f"{seed}.{suffix}"
        if suffix == "png":
            write_units(path, truth(seed), 256)
        elif suffix == "npy":
            np.save(path, truth(seed))
        else:
            write_pfm(path, np.where(truth(seed) > 15, np.inf, truth(seed)), ">")
    (root / "intrinsics.txt").write_text(f"{FOCAL_PX} {FOCAL_PX} 20 12\n")


def kitti_depth(root: Path) -> None:
    folder = root / "val_selection_cropped"
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02"
    write_image(folder / "image" / f"{name.format('image')}.png", picture(0))
    write_units(folder / "groundtruth_depth" / f"{name.format('groundtruth_depth')}.png", truth(0), 256)
    camera = folder / "intrinsics" / f"{name.format('image')}.txt"
    camera.parent.mkdir()
    camera.write_text(f"{FOCAL_PX} 0 20 0 {FOCAL_PX} 12 0 0 1\n")


STEREO = {"plain": plain_stereo, "kitti 2015": kitti_2015, "kitti 2012": kitti_2012}
PERSPECTIVE = {"plain": plain_perspective, "kitti": kitti_depth}
