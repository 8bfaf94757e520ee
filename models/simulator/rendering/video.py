"""360° videos by seed: a camera that moves smoothly through one scene, H.264, with the true depth of every frame."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from ...video.h264 import REPEATABLE
from ..appearance.looks import FieldCamera
from ..scenes.placement import camera_path
from ..scenes.scene import Look
from ..scenes.world import Scene
from .panoramas import pose_info, scene_of
from .render import Panorama, render, render_depth

SPEED_M_S = {"indoor": 0.7, "outdoor": 1.4}
CRF = {"synthetic": 16, "field": 25}


@dataclass(frozen=True)
class Pose:
    """position_m (3,), and angles as in rays.rotation."""

    position_m: np.ndarray
    yaw_rad: float
    roll_rad: float
    pitch_rad: float


@dataclass(frozen=True)
class SimulatedVideo:
    """`mp4` is the whole file; `frames_depth_m` gives float32 (H, 2H) for each frame, once, computed as it is read."""

    video_id: str
    mp4: bytes
    frames_depth_m: Iterator[np.ndarray]
    info: dict


def simulate_video(seed: int, index: int, look: Look, height: int, frames: int, fps: float) -> SimulatedVideo:
    """Video `index` of a seed, indoors and outdoors in turn; one frame is in memory at a time."""
    if frames < 1 or fps <= 0 or height < 16 or height % 2:
        raise ValueError(f"no such video: {frames} frames, {fps} fps, height {height} (even, at least 16)")
    scene, rng = scene_of(seed, index, look, purpose=1)
    camera = FieldCamera.draw(rng) if look == "field" else None
    length_m = SPEED_M_S[scene.info["scene"]] * frames / fps
    poses = _poses(scene, frames, length_m, camera, rng)
    pictures = (_picture(scene, pose, height, camera, rng) for pose in poses)
    video_id = f"{look}_{seed}_{index:06d}"
    info = scene.info | {"video_id": video_id, "seed": seed, "fps": fps, "frames": frames}
    info["poses"] = [pose_info(p.position_m, p.yaw_rad, p.roll_rad, p.pitch_rad) for p in poses]
    depths_m = (render_depth(scene, p.position_m, height, p.yaw_rad, p.roll_rad, p.pitch_rad) for p in poses)
    return SimulatedVideo(video_id, encode_h264(pictures, height, fps, CRF[look]), depths_m, info)


def encode_h264(pictures: Iterable[np.ndarray], height: int, fps: float, crf: int) -> bytes:
    """An MP4 of RGB pictures (H, 2H, 3): H.264, yuv420p, a key frame every two seconds, the same bytes every time."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = 2 * height, height, "yuv420p"
        stream.options = {"crf": str(crf), **REPEATABLE}
        stream.gop_size = max(1, round(2 * fps))
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _poses(
    scene: Scene, frames: int, length_m: float, camera: FieldCamera | None, rng: np.random.Generator
) -> list[Pose]:
    """A walk; a field camera is held by hand, tilted and swaying a little."""
    positions, yaw = camera_path(scene, frames, length_m, rng)
    sway = np.radians(0.5) * np.sin(np.arange(frames)[:, None] * [0.7, 0.9] + rng.uniform(0, 6, 2))
    roll, pitch = (np.array([camera.roll_rad, camera.pitch_rad]) + sway).T if camera else np.zeros((2, frames))
    return [Pose(p, float(y), float(r), float(t)) for p, y, r, t in zip(positions, yaw, roll, pitch, strict=True)]


def _picture(scene: Scene, pose: Pose, height: int, camera: FieldCamera | None, rng: np.random.Generator) -> np.ndarray:
    clean: Panorama = render(scene, pose.position_m, height, pose.yaw_rad, pose.roll_rad, pose.pitch_rad)
    return camera.develop(clean.rgb, clean.depth_m, rng) if camera else clean.rgb
