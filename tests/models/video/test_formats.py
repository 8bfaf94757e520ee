"""What the web's files are like: every codec in every container that takes it, and headers that say odd things."""

import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dap_engine.models.video.decode import DECODER_OPTIONS
from dap_engine.models.video.file import VideoError
from dap_engine.models.video.frames import VideoFrame, sample_frames
from tests.footage import grey_ramp, panorama, ramp_index, with_changed_packet, write_video

CONTAINERS = {
    "libx264": ("mp4", "mov", "mkv"),
    "libx265": ("mp4", "mov", "mkv"),  # open groups of pictures
    "libvpx-vp9": ("mp4", "mkv", "webm"),
    "libsvtav1": ("mp4", "mkv", "webm"),
}
COMBINATIONS = [(codec, container) for codec, containers in CONTAINERS.items() for container in containers]
SINCE_MS = 5000


def assert_shows_what_it_says(frames: list[VideoFrame], times_ms: list[int]) -> None:
    assert [ramp_index(frame.rgb) for frame in frames] == [frame.frame_index for frame in frames]
    expected_s = [times_ms[frame.frame_index] / 1000 for frame in frames]
    assert [frame.timestamp_s for frame in frames] == pytest.approx(expected_s, abs=2e-3)


@pytest.mark.parametrize(("codec", "container"), COMBINATIONS)
def test_exact_frames_and_times_from_a_late_start(tmp_path, codec, container):
    times_ms = [SINCE_MS + 100 * index for index in range(40)]
    video = write_video(
        tmp_path / f"v.{container}", grey_ramp(40, height=64), codec=codec, gop=7, timestamps_ms=times_ms
    )
    for every_s in (0.1, 0.3, 0.9):
        frames = list(sample_frames(str(video), every_s, 64))
        step = round(every_s * 10)
        assert [frame.frame_index for frame in frames] == list(range(0, 40, step))
        assert_shows_what_it_says(frames, times_ms)


@pytest.mark.parametrize(("codec", "container"), COMBINATIONS)
def test_key_frames_are_exact_too(tmp_path, codec, container):
    video = write_video(tmp_path / f"v.{container}", grey_ramp(40, height=64), codec=codec, gop=7)
    frames = list(sample_frames(str(video), 0.7, 64, snap_to_keyframes=True))
    assert len(frames) == 6
    assert_shows_what_it_says(frames, [100 * index for index in range(40)])


def test_interlaced_pictures_show_one_moment(tmp_path):
    """Stripes that move by half a stripe between the two fields of a picture are combed where both are shown."""
    rows, columns = np.mgrid[:128, :256]
    moments = [np.where((columns - 8 * time) // 16 % 2, 220, 30) for time in range(8)]
    mixed = [np.where(rows % 2, late, early) for early, late in itertools.pairwise(moments)]
    frames = [np.repeat(picture[..., None], 3, axis=2).astype(np.uint8) for picture in mixed]
    with av.open(str(tmp_path / "fields.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": "tff=1", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = 128, 256, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    shown = list(sample_frames(str(tmp_path / "fields.mp4"), 0.1, 128))
    assert len(shown) == len(frames)
    for frame, early in zip(shown, moments, strict=False):
        assert np.abs(frame.rgb.astype(int) - early[..., None]).mean() < 12
        assert np.abs(np.diff(frame.rgb.astype(int), axis=0)).mean() < 3


@pytest.mark.parametrize("codec", CONTAINERS)
def test_several_threads_change_nothing(tmp_path, codec):
    pictures = [panorama(64, seed=index) for index in range(20)]
    video = str(write_video(tmp_path / f"v.{CONTAINERS[codec][0]}", pictures, codec=codec, gop=7))
    for every_s in (0.1, 0.4):
        one, two = (list(sample_frames(video, every_s, 64, threads=threads)) for threads in (1, 2))
        assert [frame.frame_index for frame in one] == [frame.frame_index for frame in two]
        assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("codec", "container"), COMBINATIONS)
def test_variable_frame_rate(tmp_path, codec, container):
    times_ms = [0, 40, 80, 1000, 1040, 2500, 2540, 2580, 9000, 9040]
    video = write_video(
        tmp_path / f"v.{container}", grey_ramp(10, height=64), codec=codec, gop=4, timestamps_ms=times_ms
    )
    frames = list(sample_frames(str(video), 1.0, 64))
    assert [frame.frame_index for frame in frames] == [0, 3, 5, 8]
    assert_shows_what_it_says(frames, times_ms)


def encode(
    path: Path,
    frames: list[np.ndarray],
    codec: str,
    pix_fmt: str = "yuv420p",
    gop: int = 7,
    options: dict[str, str] | None = None,
    audio_first: bool = False,
    cover: bool = False,
) -> Path:
    """An encoder's rarer settings, at 10 frames a second."""
    with av.open(str(path), "w") as container:
        if audio_first:
            sound = container.add_stream("aac", rate=16000, layout="mono")
        picture = container.add_stream("mjpeg") if cover else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = 640, 320, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pix_fmt, gop
        if picture:
            still = av.VideoFrame.from_ndarray(np.full((320, 640, 3), 200, np.uint8), format="rgb24")
            container.mux(picture.encode(still))
        if audio_first:
            for start in range(0, 1600 * len(frames), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 16000, start, Fraction(1, 16000)
                container.mux(sound.encode(silence))
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def assert_samples_are_exact(video: Path, count: int) -> None:
    for every_s in (0.1, 0.5, 0.9):
        frames = list(sample_frames(str(video), every_s, 64))
        assert [frame.frame_index for frame in frames] == list(range(0, count, round(every_s * 10)))
        assert [ramp_index(frame.rgb) for frame in frames] == [frame.frame_index for frame in frames]


@pytest.mark.parametrize(
    "params", ["open-gop=1:keyint=7:bframes=3", "bframes=3:b-pyramid=normal:keyint=40", "keyint=1", "intra-refresh=1"]
)
def test_groups_of_h264(tmp_path, params):
    video = encode(tmp_path / "v.mp4", grey_ramp(40, 64), "libx264", options={"x264-params": params})
    assert_samples_are_exact(video, 40)


@pytest.mark.parametrize("container", ["ts", "avi", "flv", "h264"])
def test_other_containers(tmp_path, container):
    """A transport stream has no index; an AVI and a bare stream have no presentation times."""
    video = encode(tmp_path / f"v.{container}", grey_ramp(40, 64), "libx264", options={"x264-params": "bframes=2"})
    assert_samples_are_exact(video, 40)


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("libx265", "mkv"), ("libsvtav1", "webm")])
def test_ten_bits(tmp_path, codec, container):
    video = encode(tmp_path / f"v.{container}", grey_ramp(20, 64), codec, pix_fmt="yuv420p10le")
    assert_samples_are_exact(video, 20)


@pytest.mark.parametrize(("height", "width"), [(65, 129), (127, 255), (33, 67)])
def test_odd_sizes(tmp_path, height, width):
    wide = [np.full((height, width, 3), 20 + 5 * index, np.uint8) for index in range(12)]
    video = encode(tmp_path / "v.mp4", wide, "libx264", pix_fmt="yuv444p")
    frames = list(sample_frames(str(video), 0.1, 64))
    assert [ramp_index(frame.rgb) for frame in frames] == list(range(12))
    assert frames[0].rgb.shape == (64, 128, 3)
    assert frames[0].display_aspect == pytest.approx(width / height)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_sound_first_and_a_cover_picture(tmp_path, container):
    video = encode(
        tmp_path / f"v.{container}", grey_ramp(20, 64), "libx264", audio_first=True, cover=container == "mp4"
    )
    with av.open(str(video)) as written:
        assert written.streams[0].type == "audio"
        assert len(written.streams.video) == (2 if container == "mp4" else 1)
    assert_samples_are_exact(video, 20)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_of_two_picture_tracks_the_larger_is_read(tmp_path, container):
    path = tmp_path / f"v.{container}"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, height in zip(streams, (32, 64), strict=True):
            stream.height, stream.width, stream.pix_fmt = height, 2 * height, "yuv420p"
        for index in range(10):
            for stream, level in zip(streams, (240, 20 + 5 * index), strict=True):
                grey = np.full((stream.height, stream.width, 3), level, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode(None))
    assert_samples_are_exact(path, 10)


def test_pictures_that_outgrow_their_header(tmp_path, monkeypatch):
    """A stream may turn to a picture size of its own, whatever its container says."""
    monkeypatch.setitem(DECODER_OPTIONS, "max_pixels", str(64 * 128 - 1))
    video = write_video(tmp_path / "v.mp4", grey_ramp(5, 64))
    with pytest.raises(VideoError, match="decode_failed"):
        list(sample_frames(str(video), 1, 32))


def test_hours_long(tmp_path):
    """Six hours at a frame every ten seconds: times are exact to the millisecond at the end too."""
    times_ms = [10_000 * index + 7 * (index % 3) for index in range(2160)]
    stills = grey_ramp(40) * 54
    video = write_video(tmp_path / "v.mp4", stills, timestamps_ms=times_ms, gop=30)
    frames = list(sample_frames(str(video), 3600, 32))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([3600 * hour for hour in range(6)], abs=0.02)
    (last,) = list(sample_frames(str(video), 21_590, 32))[1:]
    assert last.timestamp_s == pytest.approx(21_590.014, abs=1e-3)


def boxes(data: bytes, name: bytes) -> Iterator[int]:
    """Where the contents of all boxes of this name begin."""
    start = data.find(name)
    while start >= 0:
        yield start + 4
        start = data.find(name, start + 4)


def patched(path: Path, box: bytes, at: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    for start in boxes(data, box):
        data[start + at : start + at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("duration", [0, 1, 10**9])
def test_a_wrong_duration_in_an_mp4(tmp_path, duration):
    video = write_video(tmp_path / "v.mp4", grey_ramp(40), gop=7)
    for box, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        patched(video, box, at, struct.pack(">I", duration))
    assert_samples_are_exact(video, 40)


@pytest.mark.parametrize("duration_ms", [0.0, 1.0, 1e12])
def test_a_wrong_duration_in_a_matroska(tmp_path, duration_ms):
    video = write_video(tmp_path / "v.mkv", grey_ramp(40), gop=7)
    data = bytearray(video.read_bytes())
    at = data.index(b"\x44\x89\x88")  # the Duration element, of eight bytes
    data[at + 3 : at + 11] = struct.pack(">d", duration_ms)
    video.write_bytes(data)
    assert_samples_are_exact(video, 40)


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path):
    """Starting in the middle of a group: its key frame is decoded, and hidden."""
    video = write_video(tmp_path / "v.mp4", grey_ramp(40), gop=7)
    data = video.read_bytes()
    (elst,) = boxes(data, b"elst")
    (mdhd,) = boxes(data, b"mdhd")
    media_time, timescale = struct.unpack_from(">i", data, elst + 12)[0], struct.unpack_from(">I", data, mdhd + 12)[0]
    patched(video, b"elst", 12, struct.pack(">i", media_time + 10 * timescale // 10))
    frames = list(sample_frames(str(video), 0.5, 32))
    assert [ramp_index(frame.rgb) for frame in frames] == [10, 15, 20, 25, 30, 35]
    assert [frame.frame_index for frame in frames] == [0, 5, 10, 15, 20, 25]
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=2e-3)


TURNED = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}  # clockwise, for the display


@pytest.mark.parametrize("clockwise", TURNED)
def test_rotation_metadata_is_obeyed(tmp_path, clockwise):
    upright = panorama(64)
    stored = np.ascontiguousarray(np.rot90(upright, clockwise // 90))
    video = write_video(tmp_path / "v.mp4", [stored] * 3)
    a, b, c, d = TURNED[clockwise]
    patched(video, b"tkhd", 40, struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))
    frame = next(sample_frames(str(video), 1, 64))
    assert frame.display_aspect == pytest.approx(2)
    assert np.abs(frame.rgb.astype(int) - upright).mean() < 15
    assert np.abs(frame.rgb[::-1, ::-1].astype(int) - upright).mean() > 30


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1"])
@pytest.mark.parametrize("most", [2, 3, 5])
def test_few_frames_of_many_come_out_of_every_codec(tmp_path, codec, most):
    """A decoder begins in the middle, at a picture that is not wanted itself."""
    container = "webm" if codec in ("libvpx-vp9", "libsvtav1") else "mp4"
    video = encode(tmp_path / f"v.{container}", grey_ramp(40, 64), codec, gop=20)
    frames = list(sample_frames(str(video), 0.1, 64, max_frames=most))
    assert len(frames) == most
    assert [ramp_index(frame.rgb) for frame in frames] == [frame.frame_index for frame in frames]


@pytest.mark.parametrize("seed", range(4))
def test_what_refers_to_a_damaged_picture_is_not_taken_for_whole(tmp_path, seed):
    def flipped(packet: bytes) -> bytes:
        data, rng = bytearray(packet), np.random.Generator(np.random.PCG64(seed))
        for place in rng.integers(12, len(data), 6):
            data[place] ^= int(rng.integers(1, 256))
        return bytes(data)

    turning = [panorama(64, turn=index / 50) for index in range(100)]
    whole = encode(tmp_path / "whole.mp4", turning, "libx264", gop=10, options={"bf": "0"})
    damaged = with_changed_packet(whole, tmp_path / "v.mp4", 53 + seed, flipped)
    right = {frame.frame_index: frame.rgb.astype(int) for frame in sample_frames(str(whole), 0.01, 64)}
    frames = list(sample_frames(str(damaged), 0.01, 64))
    assert 90 <= len(frames) < 100
    assert max(np.abs(frame.rgb - right[frame.frame_index]).mean() for frame in frames) < 1
