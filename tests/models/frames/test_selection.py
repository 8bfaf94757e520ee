"""Which frames of a video are kept, given what each shows; and what becomes of the video."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.frames.analyzer import AnalyzedFrame, FrameAnalyzer, declared_code
from dap_engine.models.frames.selection import FrameSelector
from dap_engine.models.frames.summary import HOPELESS_AFTER, STEREO_AFTER, VideoSummary
from dap_engine.models.video.file import VideoError
from dap_engine.models.video.frames import VideoFrame, spread
from dap_engine.models.video.spherical_metadata import Declared
from tests.footage import panorama, perspective

ANALYZER = FrameAnalyzer(panorama_check=None, level=False, min_sharpness=0.25, max_flat_share=0.85)
ERP, MESH = Declared("equirectangular"), Declared("mesh")


def video_frame(rgb: np.ndarray, **fields) -> VideoFrame:
    return VideoFrame(frame_index=0, timestamp_s=0.0, display_aspect=2.0, rgb=rgb, **fields)


def analyzed(rgb: np.ndarray) -> AnalyzedFrame:
    return ANALYZER.analyze(video_frame(rgb))


A, B, C = (analyzed(panorama(64, seed)) for seed in (0, 1, 3))
BLACK = analyzed(np.zeros((64, 128, 3), np.uint8))


def codes(*frames: AnalyzedFrame, bits: int | None = 16) -> list[str]:
    return [selected.code for selected in FrameSelector(bits).select(frames)]


def test_one_place_is_kept_once_also_after_others():
    again = analyzed(np.roll(panorama(64, 0), 9, axis=1))
    assert codes(A, A, B, again, C, BLACK) == ["", "frozen", "", "near_duplicate", "", "black"]
    assert codes(A, A, B, again, C, BLACK, bits=None) == ["", "", "", "", "", "black"]


def test_what_was_dropped_has_no_duplicates():
    bad = replace(A, code="tilted")
    assert codes(bad, B, A) == ["tilted", "", ""]


def test_slow_changes_add_up():
    base = panorama(64, 0).astype(np.int16)
    drift = [analyzed(np.clip(base + step, 0, 255).astype(np.uint8)) for step in range(8)]
    assert "" in codes(*drift, bits=0)[1:]


def test_shots_are_counted():
    dark = analyzed((panorama(64, 1) // 4).astype(np.uint8))
    shots = [chosen.shot for chosen in FrameSelector(None).select([A, A, dark, dark, A])]
    assert shots == [0, 0, 1, 1, 2]


def test_no_frames_are_no_frames():
    assert codes() == []


@given(st.integers(0, 300), st.integers(1, 50))
def test_a_spread_is_even_and_whole(length, count):
    selected = spread(np.arange(length), count).tolist()
    assert len(selected) == min(length, count)
    assert selected == sorted(set(selected))
    if length > count:
        gaps = np.diff([-1 - selected[0], *selected, 2 * length - 1 - selected[-1]])
        assert max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        (None, ""),
        (ERP, ""),
        (replace(ERP, bounds=(0, 0, 0.25, 0.25)), "partial"),
        (replace(ERP, stereo="top_bottom"), "stereo_top_bottom"),
        (replace(ERP, stereo="side_by_side"), "stereo_side_by_side"),
        (Declared("cubemap"), "cubemap"),
        (MESH, "mesh"),
        (Declared("rectilinear"), "perspective"),
        (Declared("unknown", "top_bottom"), "stereo_top_bottom"),
        (Declared("unknown"), ""),
    ],
)
def test_what_is_declared(declared, code):
    assert declared_code(declared) == code


def test_one_eye_of_a_declared_pair_is_a_panorama():
    assert declared_code(replace(ERP, stereo="top_bottom"), one_eye=True) == ""
    assert declared_code(Declared("cubemap", "top_bottom"), one_eye=True) == "cubemap"


def test_a_declaration_is_believed_where_the_picture_is_not_plainly_a_panorama():
    with pytest.raises(VideoError, match="mesh: as the file declares"):
        ANALYZER.analyze(video_frame(perspective(128), declared=MESH))
    assert ANALYZER.analyze(video_frame(panorama(64), declared=MESH)).code == ""


def test_a_declaration_mends_no_picture():
    assert ANALYZER.analyze(video_frame(perspective(128), declared=ERP)).code in ("perspective", "open_seam")


def test_the_shape_of_one_eye_says_nothing():
    eye = replace(video_frame(panorama(64)), display_aspect=4.0)
    assert ANALYZER.analyze(eye).code
    assert replace(ANALYZER, eye="top_half").analyze(eye).code == ""


def verdict(*frame_codes: str) -> VideoSummary:
    found = VideoSummary()
    for code in frame_codes:
        found.add(code, "why")
    return found


@pytest.mark.parametrize(
    ("frame_codes", "code"),
    [
        ([], "no_frames"),
        ([""], None),
        (["", "partial"], None),
        (["", "partial", "partial"], "partial"),
        (["", *["black"] * 9], None),
        (["black", "black", "title_card"], "black"),
        (["partial", *["frozen"] * 9], "partial"),
        (["blurred", "blurred", "partial"], "blurred"),
        (["", "blurred", "partial", "partial", "frozen"], None),
    ],
)
def test_a_video_is_dropped_for_what_most_of_its_telling_frames_are(frame_codes, code):
    drop = verdict(*frame_codes).drop
    assert (drop[0] if drop else None) == code


def test_a_video_without_a_panorama_is_hopeless_and_black_frames_do_not_count():
    assert verdict(*["tilted"] * HOPELESS_AFTER).is_hopeless
    assert not verdict("", *["tilted"] * HOPELESS_AFTER).is_hopeless
    assert not verdict(*["black"] * HOPELESS_AFTER, *["tilted"] * (HOPELESS_AFTER - 1)).is_hopeless


def test_two_pictures_in_one_are_seen_after_a_few_frames():
    assert verdict(*["stereo_top_bottom"] * STEREO_AFTER).eye == "top_half"
    assert verdict("black", *["stereo_side_by_side"] * STEREO_AFTER).eye == "left_half"
    assert verdict(*["stereo_top_bottom"] * STEREO_AFTER, "").eye is None
