"""Labelled panoramas by seed: panorama i of a seed is the same whichever others are rendered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..appearance.looks import FieldCamera, compressed
from ..scenes.placement import camera_positions
from ..scenes.scene import KINDS, Kind, Look, build_scene
from ..scenes.world import Scene
from .render import render


@dataclass(frozen=True)
class LabelledPanorama:
    """rgb uint8 (H, 2H, 3); depth_m float32 (H, 2H), inf = sky; info: scene, scene_id, look, camera pose."""

    key: str
    rgb: np.ndarray
    depth_m: np.ndarray
    info: dict


def labelled_panoramas(
    seed: int,
    count: int,
    look: Look,
    height: int,
    *,
    start: int = 0,
    views_per_scene: int = 4,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[LabelledPanorama]:
    """Panoramas start .. start + count - 1 of a seed; the scenes are of the `kinds` in turn.

    A shard whose `start` and `count` are multiples of `views_per_scene` builds each of its scenes once.
    """
    stop = start + count
    for scene_index in range(start // views_per_scene, -(-stop // views_per_scene)):
        first = scene_index * views_per_scene
        views = range(max(start - first, 0), min(stop - first, views_per_scene))
        scene, rng = scene_of(seed, scene_index, look, purpose=0, kinds=kinds)
        yield from _views(scene, rng, f"{look}_{seed}_{scene_index:06d}", look, height, views, views_per_scene)


def scene_of(
    seed: int, index: int, look: Look, purpose: int, kinds: Sequence[Kind] = KINDS
) -> tuple[Scene, np.random.Generator]:
    """The scene `index` of a seed for a purpose (panoramas, videos), and the generator of what happens in it."""
    entropy = np.random.SeedSequence([seed, index, purpose])
    rng = np.random.Generator(np.random.PCG64(entropy.spawn(1)[0]))
    return build_scene(kinds[index % len(kinds)], look, int(entropy.generate_state(1)[0])), rng


def _views(
    scene: Scene,
    rng: np.random.Generator,
    scene_id: str,
    look: Look,
    height: int,
    views: range,
    views_per_scene: int,
) -> Iterator[LabelledPanorama]:
    positions = camera_positions(scene, views_per_scene, rng)
    view_rngs = rng.spawn(views_per_scene)
    for view in views:
        panorama, pose = _take(scene, positions[view], look, height, view_rngs[view])
        info = scene.info | {"scene_id": scene_id, "view": view} | pose
        yield LabelledPanorama(f"{scene_id}_{view:02d}", *panorama, info)


def _take(
    scene: Scene, position_m: np.ndarray, look: Look, height: int, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], dict]:
    """One picture with its depth, and the pose it was taken from."""
    yaw_rad = float(rng.uniform(-np.pi, np.pi))
    camera = FieldCamera.draw(rng) if look == "field" else None
    roll_rad, pitch_rad = (camera.roll_rad, camera.pitch_rad) if camera else (0.0, 0.0)
    clean = render(scene, position_m, height, yaw_rad, roll_rad, pitch_rad)
    rgb = compressed(camera, clean.rgb, clean.depth_m, rng) if camera else clean.rgb
    return (rgb, clean.depth_m), pose_info(position_m, yaw_rad, roll_rad, pitch_rad)


def pose_info(position_m: np.ndarray, yaw_rad: float, roll_rad: float, pitch_rad: float) -> dict:
    """A camera pose as plain numbers: metres in the scene's axes, degrees."""
    degrees = {"yaw_deg": yaw_rad, "roll_deg": roll_rad, "pitch_deg": pitch_rad}
    turned = {name: round(float(np.degrees(value)), 4) for name, value in degrees.items()}
    return {"position_m": [round(float(value), 4) for value in position_m]} | turned
