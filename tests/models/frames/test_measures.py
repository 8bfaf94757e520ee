"""Brightness, flatness and sharpness: what they tell apart, and that they are the sphere's, not the picture's."""

import cv2
import numpy as np
import pytest

from dap_engine.models.frames.analyzer import DARK
from dap_engine.models.frames.measures import measure_frame
from dap_engine.models.horizon.projection_measures import canvas
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.footage import panorama


@pytest.fixture(scope="module")
def room() -> np.ndarray:
    (room,) = labelled_panoramas(seed=31, count=1, look="synthetic", height=256)
    return room.rgb


def title_card(height: int = 256) -> np.ndarray:
    """Three lines of white letters on black, as stitched into the front of a panorama."""
    rgb = np.zeros((height, 2 * height, 3), np.uint8)
    for line in range(3):
        where = (height - height // 4, height // 2 + line * height // 12)
        cv2.putText(rgb, "A FILM BY US", where, cv2.FONT_HERSHEY_SIMPLEX, height / 512, (255, 255, 255), 1, cv2.LINE_AA)
    return rgb


def test_a_title_card_is_flat_but_not_dark(room):
    card = measure_frame(title_card())
    assert card.flat_share > 0.9
    assert measure_frame(room).flat_share < 0.7
    assert measure_frame(np.zeros((256, 512, 3), np.uint8)).brightness <= DARK


def test_a_night_with_a_lamp_is_not_black():
    night = (panorama(128) * 0.05).astype(np.uint8)
    night[50:70, 100:130] = 200  # one percent of the sphere and more
    assert measure_frame(night).brightness > DARK


def test_poles_count_by_the_angle_they_cover():
    rgb = panorama(128, 1)
    rgb[:32] = 0  # a quarter of the rows, 15 % of the sphere
    assert measure_frame(rgb).flat_share == pytest.approx((1 - np.sin(np.pi / 4)) / 2, abs=0.02)


@pytest.mark.parametrize("sigma", [4, 6, 8])
def test_blur_of_any_kind_lowers_sharpness(room, sigma):
    sharp = measure_frame(room).sharpness
    for blurred in (cv2.GaussianBlur(room, (0, 0), sigma / 2), cv2.blur(room, (4 * sigma, 1))):
        assert measure_frame(blurred).sharpness < 0.6 * sharp


def test_fog_and_darkness_are_not_blur(room):
    sharp = measure_frame(room).sharpness
    assert measure_frame((128 + (room / 3)).astype(np.uint8)).sharpness > 0.8 * sharp
    assert measure_frame((room / 4).astype(np.uint8)).sharpness > 0.8 * sharp


def test_nothing_is_said_of_the_sharpness_of_flat_or_tiny_pictures():
    assert measure_frame(np.full((256, 512, 3), 90, np.uint8)).sharpness is None
    assert measure_frame(panorama(64)).sharpness is None


@pytest.mark.shared
def test_no_real_panorama_is_blurred_black_or_a_title(shared_data):
    from dap_engine.models.data.pictures import read_picture
    from dap_engine.stages.extract import Extract

    settings = Extract()
    paths = sorted((shared_data / "panos").iterdir())
    found = {path.name: measure_frame(canvas(read_picture(str(path)))) for path in paths}
    for name, measures in found.items():
        assert measures.brightness > 2 * DARK, name
        assert measures.flat_share < settings.max_flat_share - 0.2, name
        assert measures.sharpness is None or measures.sharpness > 1.25 * settings.min_sharpness, name
    blurred = [measure_frame(canvas(cv2.GaussianBlur(_small(path), (0, 0), 4))).sharpness for path in paths]
    assert sum(value is not None and value < settings.min_sharpness for value in blurred) > 0.9 * len(blurred)


def _small(path) -> np.ndarray:
    from dap_engine.models.data.pictures import read_picture

    return cv2.resize(read_picture(str(path)), (1024, 512), interpolation=cv2.INTER_AREA)
