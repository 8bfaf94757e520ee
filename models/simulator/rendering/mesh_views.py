"""Labelled panoramas of a user's own mesh."""

from collections.abc import Iterator

import numpy as np

from ..scenes.placement import camera_positions
from ..scenes.world import Scene
from .panoramas import LabelledPanorama, pose_info
from .render import render


def mesh_panoramas(scene: Scene, seed: int, count: int, height: int, *, start: int = 0) -> Iterator[LabelledPanorama]:
    """Views start .. start + count - 1 of one scene; each depends on the seed and its own number alone."""
    for index in range(start, start + count):
        rng = np.random.Generator(np.random.PCG64([seed, index]))
        (position,) = camera_positions(scene, 1, rng)
        yaw_rad = float(rng.uniform(-np.pi, np.pi))
        view = render(scene, position, height, yaw_rad)
        key = f"mesh_{seed}_{index:06d}"
        info = scene.info | {"scene_id": f"mesh_{seed}", "view": index} | pose_info(position, yaw_rad, 0.0, 0.0)
        yield LabelledPanorama(key, view.rgb, view.depth_m, info)
