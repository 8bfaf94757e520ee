"""decord2 gives the frames that PyAV gives, in number, time and content, or refuses the video."""

from pathlib import Path

import av
import numpy as np
import pytest

from dap_engine.models.video.file import VideoError
from dap_engine.models.video.frames import VideoFrame, sample_frames
from tests.footage import panorama, write_video

PSNR_DB = 40.0  # at least: both decode to the same pixels, and turn these into RGB each in its own way


def frames_of(path: Path, decoder, every_s: float = 0.3, height: int = 64) -> list[VideoFrame]:
    return list(sample_frames(str(path), every_s, height, decoder=decoder))


def assert_same(path: Path, every_s: float = 0.3) -> None:
    ours, theirs = (frames_of(path, decoder, every_s) for decoder in ("pyav", "decord"))
    assert len(ours) > 0
    assert [(one.frame_index, one.timestamp_s) for one in theirs] == [
        (one.frame_index, one.timestamp_s) for one in ours
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert one.display_aspect == pytest.approx(other.display_aspect)
        error = np.mean((one.rgb.astype(float) - other.rgb) ** 2)
        assert error == 0 or 10 * np.log10(255**2 / error) >= PSNR_DB, one.frame_index


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_the_same_frames_of_a_video_with_closed_groups(tmp_path, codec):
    frames = [panorama(64, seed // 6, turn=seed / 24) for seed in range(24)]
    assert_same(encoded(tmp_path / "video.mkv", frames, codec, {}))


def test_uneven_times(tmp_path):
    times_ms = [0, 100, 250, 260, 700, 1500, 1540, 1900]
    assert_same(write_video(tmp_path / "uneven.mp4", [panorama(64, i) for i in range(8)], timestamps_ms=times_ms))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_open_groups_are_refused(tmp_path, codec):
    kind = codec.removeprefix("lib")
    groups = "keyint=8:min-keyint=8:bframes=3:open-gop=1:scenecut=0:b-adapt=0"
    path = encoded(tmp_path / "open.mp4", [panorama(64, i) for i in range(24)], codec, {f"{kind}-params": groups})
    assert len(frames_of(path, "pyav")) > 0
    with pytest.raises(VideoError, match="decoder: pyav") as caught:
        frames_of(path, "decord")
    assert caught.value.code == "open_group"


def test_interlaced_pictures_are_refused(tmp_path):
    path = encoded(tmp_path / "fields.mp4", [panorama(64, i) for i in range(8)], "libx264", {"x264-params": "tff=1"})
    assert len(frames_of(path, "pyav")) > 0
    with pytest.raises(VideoError, match="decoder: pyav") as caught:
        frames_of(path, "decord")
    assert caught.value.code == "interlaced"


def test_a_damaged_video_is_an_error(tmp_path):
    path = write_video(tmp_path / "video.mp4", [panorama(64, i) for i in range(10)])
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 200
    data[start : start + 4000] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(VideoError):
        frames_of(path, "decord")


@pytest.mark.shared
@pytest.mark.slow
def test_the_same_frames_of_real_footage(shared_data):
    compared = 0
    for path in sorted((shared_data / "videos").iterdir()):
        try:
            frames_of(path, "decord", every_s=5.0)
        except VideoError:
            continue
        assert_same(path, every_s=5.0)
        compared += 1
    assert compared >= 12


def encoded(path: Path, frames: list[np.ndarray], codec: str, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.gop_size = 8
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return path
