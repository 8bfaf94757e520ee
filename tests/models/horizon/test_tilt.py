"""Which way is up: the conventions of roll and pitch, and how good the estimate is."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.horizon import EMBEDDED_WEIGHTS
from dap_engine.models.horizon.sphere_view import turned
from dap_engine.models.horizon.tilt import (
    Tilt,
    TiltEstimator,
    levelled,
    roll_and_pitch_deg,
    up_vector,
)
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.footage import panorama


@pytest.fixture(scope="module")
def estimator():
    return TiltEstimator()


@pytest.fixture(scope="module")
def level_panoramas():
    """Of scenes that nothing was trained on."""
    return [p.rgb for p in labelled_panoramas(seed=990, count=6, look="synthetic", height=192, views_per_scene=1)]


def taken_by(rgb: np.ndarray, *, roll_deg: float = 0.0, pitch_deg: float = 0.0, height: int = 192) -> np.ndarray:
    """The panorama of a camera that is turned so, where a level one took `rgb`."""
    return turned(rgb, erp.rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg).numpy(), height)


@given(st.floats(-180, 180), st.floats(-89, 89))
def test_the_up_vector_is_that_of_the_cameras_rotation(roll_deg, pitch_deg):
    to_world = erp.rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg, yaw_deg=70)
    up = up_vector(roll_deg, pitch_deg)
    assert np.allclose(to_world.numpy() @ up, [0, 0, 1])
    again = up_vector(*roll_and_pitch_deg(3 * up))
    assert np.allclose(again, up, atol=1e-9)


@pytest.mark.parametrize("angles", [(0, 30), (0, -30), (30, 0), (-30, 0), (20, 20)])
def test_signs(estimator, level_panoramas, angles):
    """Roll leans to the right, pitch raises the nose: of most pictures, each within 15°."""
    roll_deg, pitch_deg = angles
    tilts = [estimator.estimate(taken_by(rgb, roll_deg=roll_deg, pitch_deg=pitch_deg)) for rgb in level_panoramas]
    assert np.median([tilt.roll_deg for tilt in tilts]) == pytest.approx(roll_deg, abs=15)
    assert np.median([tilt.pitch_deg for tilt in tilts]) == pytest.approx(pitch_deg, abs=15)


def test_level_panoramas_are_level(estimator, level_panoramas):
    tilts_deg = [estimator.estimate(rgb).tilt_deg for rgb in level_panoramas]
    assert np.median(tilts_deg) < 4


def test_the_size_of_a_picture_hardly_matters(estimator, level_panoramas):
    small, squeezed = level_panoramas[0][::2, ::2], level_panoramas[0][:, ::2]
    for other in (small, squeezed):
        assert estimator.estimate(np.ascontiguousarray(other)).tilt_deg < 15


def test_the_estimate_of_something_without_up_is_unsure(estimator, level_panoramas):
    rooms = [estimator.estimate(rgb).confidence for rgb in level_panoramas]
    nothing = [estimator.estimate(panorama(192, seed)).confidence for seed in range(6)]
    assert np.median(nothing) < np.median(rooms)
    assert all(0 < confidence < 1 for confidence in rooms + nothing)


@pytest.mark.parametrize("angles", [(20, 0), (0, -35), (170, 10)])
def test_levelling_undoes_the_tilt(angles):
    roll_deg, pitch_deg = angles
    rgb = panorama(128)
    leaning = taken_by(rgb, roll_deg=roll_deg, pitch_deg=pitch_deg, height=128)
    back = levelled(leaning, Tilt(roll_deg, pitch_deg, 20.0, 1.0, 0.0, 0.0))
    assert np.abs(back.astype(int) - rgb).mean() < 3


def test_an_unsure_estimate_is_judged_by_what_panoramas_are_like(estimator, level_panoramas):
    """Level panoramas are the rule: the less there is to see, the less is made of an estimated tilt."""
    for rgb in (panorama(192, 3), taken_by(level_panoramas[0], roll_deg=50)):
        tilt = estimator.estimate(rgb)
        assert tilt.likely_tilt_deg <= tilt.tilt_deg + 5
    upside_down = [estimator.estimate(rgb[::-1, ::-1].copy()).likely_tilt_deg for rgb in level_panoramas]
    assert np.median(upside_down) > 90


def test_the_same_picture_gives_the_same_numbers(estimator, level_panoramas):
    assert estimator.estimate(level_panoramas[1]) == TiltEstimator().estimate(level_panoramas[1])


def test_measurements_are_plain_numbers(estimator, level_panoramas):
    json.dumps(estimator.estimate(level_panoramas[0]).measurements(), allow_nan=False)


def test_weights_are_small_and_checked(tmp_path):
    assert sum(path.stat().st_size for path in EMBEDDED_WEIGHTS.iterdir()) < 5e6
    with pytest.raises(ValueError, match="no weights"):
        TiltEstimator(tmp_path)
