"""Simulated 360° videos: frames, truth, determinism."""

import io

import av
import numpy as np
import pytest

from dap_engine.models.simulator.rendering.panoramas import scene_of
from dap_engine.models.simulator.rendering.render import render
from dap_engine.models.simulator.rendering.video import simulate_video

HEIGHT, FRAMES, FPS = 48, 7, 4


def decoded(mp4: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module", params=[(0, "synthetic"), (1, "field")], ids=["indoor", "outdoor"])
def take(request):
    index, look = request.param
    video = simulate_video(5, index, look, HEIGHT, FRAMES, FPS)
    return index, look, video, list(video.frames_depth_m)


def test_the_video_is_h264_with_the_stated_frames(take):
    _, _, video, _ = take
    with av.open(io.BytesIO(video.mp4)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == FPS
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(FRAMES) / FPS, atol=1e-3)


def test_every_frame_has_its_truth_and_matches_a_still(take):
    index, look, video, depths = take
    scene, _ = scene_of(5, index, look, purpose=1)
    pictures = decoded(video.mp4)
    assert len(pictures) == len(depths) == len(video.info["poses"]) == FRAMES
    for frame in (0, FRAMES - 1):
        pose = video.info["poses"][frame]
        angles = {f"{name}_rad": np.radians(pose[f"{name}_deg"]) for name in ("yaw", "roll", "pitch")}
        still = render(scene, pose["position_m"], HEIGHT, **angles)
        near = np.isclose(still.depth_m, depths[frame], rtol=1e-2) | (np.isinf(still.depth_m) & np.isinf(depths[frame]))
        assert near.mean() > 0.985  # the pose is rounded in the info
        if look == "synthetic":
            assert np.abs(still.rgb.astype(int) - pictures[frame]).mean() < 8


def test_the_camera_moves_smoothly(take):
    _, _, video, _ = take
    positions = np.array([pose["position_m"] for pose in video.info["poses"]])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert steps.min() > 0.01
    assert steps.max() < 0.6


def test_the_same_seed_gives_the_same_bytes(take):
    index, look, video, depths = take
    again = simulate_video(5, index, look, HEIGHT, FRAMES, FPS)
    assert again.mp4 == video.mp4
    assert again.info == video.info
    assert all(np.array_equal(a, b) for a, b in zip(again.frames_depth_m, depths, strict=True))
    assert simulate_video(6, index, look, HEIGHT, FRAMES, FPS).mp4 != video.mp4


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"fps": 0}, {"height": 33}])
def test_impossible_videos_are_refused(wrong):
    settings = {"height": HEIGHT, "frames": FRAMES, "fps": FPS} | wrong
    with pytest.raises(ValueError, match="no such video"):
        simulate_video(0, 0, "field", **settings)
