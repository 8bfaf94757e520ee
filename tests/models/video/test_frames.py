"""Frames come from where and when they say, and bad files say what is wrong with them."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.video.frames import VideoError, first_frames, nearest_frames, sample_frames
from tests.footage import grey_ramp, panorama, ramp_index, write_video

CODECS = {"libx264": "mp4", "libx265": "mov", "libvpx-vp9": "webm", "libsvtav1": "mkv"}


def error_code(path: Path) -> str:
    with pytest.raises(VideoError) as error:
        list(sample_frames(str(path), 1.0, 32))
    assert "\n" not in str(error.value)
    return error.value.code


@pytest.mark.parametrize("codec", CODECS)
def test_frames_are_the_ones_at_their_times(tmp_path, codec):
    video = write_video(tmp_path / f"v.{CODECS[codec]}", grey_ramp(40, height=64), codec=codec)
    frames = list(sample_frames(str(video), 0.7, 64))
    assert [frame.frame_index for frame in frames] == [0, 7, 14, 21, 28, 35]
    assert [ramp_index(frame.rgb) for frame in frames] == [0, 7, 14, 21, 28, 35]
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.7, 1.4, 2.1, 2.8, 3.5], abs=2e-3)


@pytest.mark.parametrize(("every_s", "gop"), [(0.1, 3), (0.3, 40), (2.5, 5), (1.7, 40)])
def test_seeking_and_decoding_through_give_the_same_frames(tmp_path, every_s, gop):
    video = write_video(tmp_path / "v.mp4", grey_ramp(45), gop=gop)
    for frame in sample_frames(str(video), every_s, 32):
        assert ramp_index(frame.rgb) == frame.frame_index
        assert frame.timestamp_s == pytest.approx(frame.frame_index / 10, abs=2e-3)


def test_open_groups_of_pictures_do_not_shift_frames(tmp_path):
    """Frames around a key frame of an open group come where they belong."""
    video = write_video(tmp_path / "v.mp4", grey_ramp(45, height=64), codec="libx265", gop=7)
    for every_s in (0.1, 0.3, 0.9):
        for frame in sample_frames(str(video), every_s, 64):
            assert ramp_index(frame.rgb) == frame.frame_index


def test_variable_frame_rate_follows_presentation_times(tmp_path):
    times_ms = [0, 40, 80, 1000, 1040, 2500, 2540, 2580, 9000, 9040]
    video = write_video(tmp_path / "v.mp4", grey_ramp(10), timestamps_ms=times_ms)
    frames = list(sample_frames(str(video), 1.0, 32))
    assert [round(frame.timestamp_s * 1000) for frame in frames] == [0, 1000, 2500, 9000]
    assert [ramp_index(frame.rgb) for frame in frames] == [0, 3, 5, 8]


@given(
    st.lists(st.floats(0.002, 5), min_size=1, max_size=60),
    st.floats(0.01, 10),
)
def test_one_frame_per_window(gaps_s, every_s):
    timestamps_s = np.cumsum(gaps_s)
    chosen = first_frames(timestamps_s, every_s)
    windows = np.floor((timestamps_s - timestamps_s[0] + 1e-3) / every_s)
    assert chosen[0] == 0
    assert windows[chosen].tolist() == sorted(set(windows.tolist()))
    assert all(windows[index - 1] < windows[index] for index in chosen[1:])


@given(st.lists(st.integers(5, 500), min_size=1, max_size=60), st.integers(20, 1000), st.data())
def test_each_multiple_has_its_nearest_key_frame(gaps_cs, every_cs, data):
    times_cs = np.cumsum(gaps_cs)
    keys = np.array(sorted({0, *data.draw(st.lists(st.integers(0, len(times_cs) - 1)))}))
    multiples_cs = np.arange(times_cs[0], times_cs[-1] + 1, every_cs)
    nearest = [keys[np.argmin(np.abs(times_cs[keys] - multiple_cs))] for multiple_cs in multiples_cs]
    assert nearest_frames(times_cs / 100, keys, every_cs / 100).tolist() == sorted(set(nearest))


def test_key_frames_are_nearest_and_nothing_else_is_taken(tmp_path):
    video = write_video(tmp_path / "v.mp4", grey_ramp(40), gop=8)  # a key frame every 0.8 s
    frames = list(sample_frames(str(video), 1.0, 32, snap_to_keyframes=True))
    assert [ramp_index(frame.rgb) for frame in frames] == [0, 8, 16, 32] == [frame.frame_index for frame in frames]
    assert len(list(sample_frames(str(video), 0.1, 32, snap_to_keyframes=True))) == 5
    assert len(list(sample_frames(str(video), 0.1, 32, snap_to_keyframes=True, max_frames=2))) == 2


def test_max_frames_and_size(tmp_path):
    video = write_video(tmp_path / "v.mp4", [panorama(96)] * 10)
    frames = list(sample_frames(str(video), 0.1, 48, max_frames=3))
    assert [frame.rgb.shape for frame in frames] == [(48, 96, 3)] * 3


def test_some_of_the_frames_alone_are_those_of_a_whole_pass(tmp_path):
    video = write_video(tmp_path / "v.mp4", grey_ramp(45), gop=7)
    whole = {frame.frame_index: frame.rgb for frame in sample_frames(str(video), 0.7, 32)}
    some = list(sample_frames(str(video), 0.7, 32, only=[7, 8, 35]))
    assert [frame.frame_index for frame in some] == [7, 35]  # 8 is none of those that are taken
    assert all((frame.rgb == whole[frame.frame_index]).all() for frame in some)


def test_display_aspect_counts_the_shape_of_pixels(tmp_path):
    squeezed = [panorama(90)[:, ::2]] * 3  # 90 x 90 stored, shown 2:1
    video = write_video(tmp_path / "v.mp4", squeezed, pixel_aspect=Fraction(2))
    frame = next(sample_frames(str(video), 1.0, 48))
    assert frame.display_aspect == pytest.approx(2)
    assert frame.rgb.shape == (48, 96, 3)


def test_reading_gives_signs_of_life_between_frames(tmp_path):
    """Of forty packets there is one frame to wait for."""
    signs = []
    video = write_video(tmp_path / "v.mp4", grey_ramp(40), gop=50)
    frames = sample_frames(str(video), 3.9, 32, on_packet=lambda: signs.append(len(signs)))
    next(frames)
    before = len(signs)
    next(frames)
    assert before >= 40
    assert len(signs) - before >= 30


def test_bad_files_have_codes(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", grey_ramp(30)).read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "garbage.mp4").write_bytes(np.random.Generator(np.random.PCG64(0)).bytes(5000))
    (tmp_path / "text.mp4").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert error_code(tmp_path / "none.mp4") == "missing_file"
    assert error_code(tmp_path / "empty.mp4") == "empty_file"
    assert error_code(tmp_path / "cut.mp4") == "truncated"
    assert error_code(tmp_path / "garbage.mp4") == "unreadable"
    assert error_code(tmp_path / "text.mp4") == "unreadable"
    assert error_code(tmp_path) == "unreadable"
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    assert error_code(tmp_path / "pipe.mp4") == "unreadable"


def test_a_cut_video_with_its_index_in_front_is_truncated(tmp_path):
    frames = [panorama(128, seed) for seed in range(30)]
    video = write_video(tmp_path / "v.mp4", frames, container_options={"movflags": "faststart"})
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) * 6 // 10])
    assert error_code(video) in ("truncated", "decode_failed")


def test_a_playlist_opens_no_other_file(tmp_path):
    write_video(tmp_path / "secret.mp4", grey_ramp(10))
    (tmp_path / "v.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    assert error_code(tmp_path / "v.mp4") == "unreadable"


def test_encrypted(tmp_path):
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    video = write_video(tmp_path / "v.mp4", grey_ramp(10), container_options=options)
    assert error_code(video) == "encrypted"


def test_wrong_settings_are_the_callers_fault(tmp_path):
    with pytest.raises(ValueError, match="positive"):
        list(sample_frames(str(tmp_path / "v.mp4"), 0, 32))
