"""Whole panoramas pass, other projections are named."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap_engine.models.horizon.projection import measure_projection
from tests.footage import panorama, perspective


def resized(rgb: np.ndarray, height: int = 256) -> np.ndarray:
    return cv2.resize(rgb, (2 * height, height), interpolation=cv2.INTER_AREA)


def in_circles(rgb: np.ndarray, circles: int, outside: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    y = (np.arange(height) + 0.5) / height * 2 - 1
    x = (np.arange(width) + 0.5) / width * circles % 1 * 2 - 1
    return np.where((np.hypot(x[None], y[:, None]) > 1)[..., None], np.uint8(outside), rgb)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), turn=st.floats(0, 6.3), height=st.sampled_from([96, 192, 256, 512]))
def test_panoramas_pass_whichever_way_they_look(seed, turn, height):
    check = measure_projection(panorama(height, seed, turn))
    assert check.valid
    assert check.reasons == ()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999))
def test_pictures_of_a_lens_do_not(seed):
    assert not measure_projection(perspective(256, seed)).valid


@pytest.mark.parametrize("seed", range(5))
class TestOtherLayouts:
    def test_stereo_top_bottom(self, seed):
        pair = np.vstack([panorama(256, seed), panorama(256, seed, turn=0.02)])
        assert measure_projection(pair).reasons[0] == "stereo_top_bottom"
        assert measure_projection(resized(pair)).reasons[0] == "stereo_top_bottom"

    def test_stereo_side_by_side(self, seed):
        pair = np.hstack([panorama(256, seed), panorama(256, seed, turn=0.02)])
        assert "stereo_side_by_side" in measure_projection(resized(pair)).reasons

    def test_fisheye(self, seed):
        assert "fisheye" in measure_projection(in_circles(perspective(256, seed)[:, :256], 1, 60)).reasons
        assert measure_projection(in_circles(perspective(256, seed), 2, 0)).reasons[0] == "dual_fisheye"

    def test_cubemap(self, seed):
        faces = [perspective(128, 10 * seed + i)[:, :128] for i in range(6)]
        grid = np.vstack([np.hstack(faces[:3]), np.hstack(faces[3:])])
        assert measure_projection(grid).reasons[0] == "cubemap"
        assert measure_projection(np.vstack(faces)).reasons[0] == "cubemap"

    def test_missing_poles_and_missing_sides(self, seed):
        whole = panorama(512, seed)
        assert "unstretched_poles" in measure_projection(resized(whole[150:-150])).reasons
        assert "wrong_aspect" in measure_projection(whole[60:-60]).reasons
        assert "open_seam" in measure_projection(resized(whole[:, 200:-200])).reasons

    def test_black_bands(self, seed):
        boxed = perspective(256, seed)
        boxed[:30] = boxed[-30:] = 0
        assert measure_projection(boxed).reasons[0] == "black_bands"


@pytest.mark.parametrize("seed", range(5))
def test_a_pole_that_was_cut_off_is_missed_on_its_side_alone(seed):
    whole = panorama(512, seed)
    for check, cut in (
        (measure_projection(whole), {"top": False, "bottom": False}),
        (measure_projection(resized(whole[150:])), {"top": True, "bottom": False}),
        (measure_projection(resized(whole[:-150])), {"top": False, "bottom": True}),
    ):
        assert {"top": check.top_cut > 2.5, "bottom": check.bottom_cut > 2.5} == cut
        assert check.reasons == (("partial", "unstretched_poles") if any(cut.values()) else ())


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank(level):
    assert measure_projection(np.full((128, 256, 3), level, np.uint8)).reasons == ("blank",)


def test_the_display_aspect_decides_about_the_shape():
    stored = cv2.resize(panorama(256), (455, 256), interpolation=cv2.INTER_AREA)
    assert measure_projection(stored).reasons == ("wrong_aspect",)
    assert measure_projection(stored, display_aspect=2.0).valid


def test_measurements_are_plain_numbers():
    measurements = measure_projection(panorama(128)).measurements()
    assert measurements["aspect"] == 2
    assert all(type(value) is float for value in measurements.values())
