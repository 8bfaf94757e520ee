"""Small encoded videos and panoramas for the tests of reading and judging footage."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

Frame = np.ndarray


def panorama(height: int, seed: int = 0, turn: float = 0.0, rotation: Frame | None = None) -> Frame:
    """Smooth random colours on the sphere, uint8 (H, 2H, 3), turned by `turn` rad: closed seam, stretched poles.

    `rotation` (3, 3): of the camera, from its rays to those of the sphere.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    theta = np.pi - 2 * np.pi * (np.arange(2 * height) + 0.5) / (2 * height) + turn
    phi = np.pi / 2 - np.pi * (np.arange(height) + 0.5) / height
    theta, phi = np.meshgrid(theta, phi)
    rays = np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], -1)
    rays = rays if rotation is None else rays @ rotation.T
    waves = rng.normal(size=(3, 24)) * np.geomspace(2, 24, 24)
    phases = rng.uniform(0, 2 * np.pi, 24)
    colours = rng.normal(size=(24, 3))
    return np.clip(128 + 14 * np.sin(rays @ waves + phases) @ colours, 0, 255).astype(np.uint8)


def perspective(height: int, seed: int = 0) -> Frame:
    """A picture of a lens, 2:1: detail of one scale everywhere, borders that have nothing to do with each other."""
    rng = np.random.Generator(np.random.PCG64(seed))
    coarse = rng.uniform(0, 255, (9, 18, 3)).astype(np.float32)
    return cv2.resize(coarse, (2 * height, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def write_video(
    path: Path,
    frames: list[Frame],
    *,
    codec: str = "libx264",
    timestamps_ms: list[int] | None = None,
    fps: int = 10,
    gop: int = 5,
    pixel_aspect: Fraction = Fraction(1),
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encodes frames at `fps`, or at given presentation times."""
    times = timestamps_ms or [1000 * i // fps for i in range(len(frames))]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        for time_ms, rgb in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_changed_packet(whole: Path, path: Path, index: int, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a video, one packet of which holds other bytes."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            kept = packet
            if number == index:
                kept = av.Packet(change(bytes(packet)))
                kept.pts, kept.dts, kept.time_base = packet.pts, packet.dts, packet.time_base
                kept.is_keyframe = packet.is_keyframe
            kept.stream = stream
            file.mux(kept)
    return path


def without_picture(whole: Path, path: Path, index: int) -> Path:
    """A copy of an H.264 video, one packet of which holds a delimiter in place of a picture."""
    return with_changed_packet(whole, path, index, lambda _: b"\0\0\0\2\x09\xf0")


def grey_ramp(count: int, height: int = 32) -> list[Frame]:
    """Frames whose brightness tells their index: 5 * index + 20."""
    return [np.full((height, 2 * height, 3), 20 + 5 * index, np.uint8) for index in range(count)]


def ramp_index(rgb: Frame) -> int:
    """The index that a decoded frame of `grey_ramp` shows."""
    return round((float(rgb.mean()) - 20) / 5)
