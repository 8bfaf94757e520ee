"""Small labelled panoramas of analytic scenes, and shards of them, for the tests of this folder."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import simplejpeg
import torch

from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.data.shards import ShardRef
from dap_engine.models.geometry.equirectangular import rays

HEIGHT = 32


def box_room(rng: np.random.Generator, height: int = HEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and ray distance (H, W) in metres from inside a box; its far wall is open to the sky."""
    directions = rays(height, 2 * height, dtype=torch.float64).numpy()
    walls_m = rng.uniform(1, 6, (2, 3))  # distance of the wall on either side of every axis
    to_wall_m = np.where(directions > 0, walls_m[0], walls_m[1]) / np.abs(directions)
    wall, depth_m = to_wall_m.argmin(-1), to_wall_m.min(-1)
    colours = rng.integers(60, 255, (6, 3))
    side = np.take_along_axis(directions > 0, wall[..., None], -1)[..., 0]
    rgb = colours[wall + 3 * side] * (2 / (1 + depth_m))[..., None].clip(0.2, 1)
    depth_m[(wall == 0) & side] = np.inf
    return rgb.astype(np.uint8), depth_m.astype(np.float32)


def write_shard(path: Path, samples: int, *, seed: int, height: int = HEIGHT, source: str = "labelled") -> ShardRef:
    """A shard of box rooms with keys <stem>-NNN."""
    rng = np.random.Generator(np.random.PCG64(seed))
    with tarfile.open(path, "w") as tar:
        for number in range(samples):
            rgb, depth_m = box_room(rng, height)
            key = f"{path.stem}-{number:03d}"
            _add(tar, f"{key}.depth.png", encode_depth_png(depth_m))
            _add(tar, f"{key}.jpg", simplejpeg.encode_jpeg(rgb, 95))
            _add(tar, f"{key}.json", json.dumps({"source": source}).encode())
    return ShardRef(str(path), samples)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
