"""How far the camera turned, found in pictures: turned by known angles, with things that move by themselves."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from dap_engine.models.evaluation.footage_motion import _tracks, camera_rotation, same_colour
from dap_engine.models.geometry.equirectangular import rotation_matrix
from tests.footage import panorama

H = 192


def off_deg(found: np.ndarray | None, true: np.ndarray) -> float:
    assert found is not None
    return float(np.degrees(np.arccos(((np.trace(found.T @ true) - 1) / 2).clip(-1, 1))))


@settings(max_examples=12, derandomize=True)
@given(st.integers(0, 5), *[st.floats(-12, 12)] * 3)
def test_a_turned_camera_is_found(seed, yaw_deg, pitch_deg, roll_deg):
    camera = rotation_matrix(yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg).numpy()
    before, after = panorama(H, seed), panorama(H, seed, rotation=camera)
    found = camera_rotation(before, after)
    assert off_deg(found, camera.T) < 0.3
    assert same_colour(before, after, camera.T).mean() > 0.9


def test_what_moves_by_itself_does_not_matter():
    camera = rotation_matrix(yaw_deg=5, pitch_deg=-3, roll_deg=4).numpy()
    before, after = panorama(H), panorama(H, rotation=camera)
    mover = panorama(H, seed=9)[:90, :130]  # an eighth of the sphere
    before[50:140, 100:230] = mover
    after[58:148, 130:260] = mover
    found = camera_rotation(before, after)
    assert off_deg(found, camera.T) < 0.3
    still = same_colour(before, after, found)
    assert not still[60:130, 110:220].mean() > 0.1
    assert still[:, 260:].mean() > 0.9


def test_a_turn_across_the_seam_is_found():
    """Detail around ±180° alone."""
    rows, columns = np.ogrid[:H, : 2 * H]
    near = np.exp(-((np.minimum(columns, 2 * H - columns) / 15) ** 2) - ((rows - H / 2) / 60) ** 2)[..., None]
    before = (panorama(H) * near).astype(np.uint8)
    found = camera_rotation(before, np.roll(before, 20, axis=1))
    assert off_deg(found, rotation_matrix(yaw_deg=-20 * 180 / H).numpy()) < 0.3


@pytest.mark.parametrize("other", [panorama(H, seed=3), np.zeros((H, 2 * H, 3), np.uint8)])
def test_between_two_shots_there_is_none(other):
    assert camera_rotation(panorama(H), other) is None
    assert camera_rotation(other, panorama(H)) is None


def test_where_everything_moves_there_is_none():
    before = panorama(H)
    upper, middle, lower = np.split(before, [75, 117])
    after = np.concatenate([np.roll(upper, 16, axis=1), middle, np.roll(lower, -16, axis=1)])
    assert len(_tracks(before, after)[0]) > 100
    assert camera_rotation(before, after) is None


def test_the_same_frames_give_the_same_rotation():
    before, after = panorama(H), panorama(H, rotation=rotation_matrix(yaw_deg=3).numpy())
    assert np.array_equal(camera_rotation(before, after), camera_rotation(before, after))
