"""How labels of consecutive frames agree: by hand on a room that a camera walks in, and where it only turns."""

import numpy as np
import pytest
import torch

from dap_engine.models.datasets.film import Film
from dap_engine.models.datasets.footage import Shot
from dap_engine.models.evaluation.temporal import aligned_shot_m, film_figures, footage_figures
from dap_engine.models.geometry.equirectangular import rays, rotation_matrix
from tests.footage import panorama

H = 32
POSITIONS_M = np.array([[0.0, 0, 0], [0.3, 0.1, 0], [0.5, 0.2, 0.1]])
ROTATIONS = np.stack([rotation_matrix(yaw_deg=yaw, roll_deg=3, pitch_deg=-5).numpy() for yaw in (0, 40, 75)])


def distances_m(position_m: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """To a sphere of 5 m around the origin, whose upper cap is open."""
    toward = rays(H, 2 * H, dtype=torch.float64).numpy() @ rotation.T
    along = toward @ position_m
    found = -along + np.sqrt(along**2 + 25 - position_m @ position_m)
    return np.where((found[..., None] * toward + position_m)[..., 2] > 4, np.inf, found).astype(np.float32)


@pytest.fixture(scope="module")
def film() -> Film:
    depths_m = np.stack([distances_m(*pose) for pose in zip(POSITIONS_M, ROTATIONS, strict=True)])
    return Film("film", [np.zeros((H, 2 * H, 3), np.uint8)] * 3, depths_m, POSITIONS_M, ROTATIONS)


def predicted(film: Film, factors: list[float]) -> np.ndarray:
    return np.where(np.isinf(film.depths_m), 100, film.depths_m) * np.array(factors)[:, None, None]


def test_the_truth_agrees_with_itself_and_so_does_what_is_wrong_alike(film):
    for factor in (1.0, 1.5):
        found = film_figures(film, predicted(film, [factor] * 3))
        assert found["temporal_error"] == pytest.approx(0, abs=1e-6)
        assert found["scale_flicker"] == pytest.approx(0, abs=1e-6)
        assert found["abs_rel"] == pytest.approx(factor - 1, abs=1e-6)


def test_flicker_is_measured(film):
    found = film_figures(film, predicted(film, [1.0, 1.2, 0.9]))
    expected = (np.log(1.2) + np.log(1.2 / 0.9)) / 2
    assert found["scale_flicker"] == pytest.approx(expected, rel=1e-6)
    assert found["temporal_error"] == pytest.approx(expected, rel=1e-6)


def test_what_moves_within_the_frame_is_no_flicker(film):
    """An error that stays where it is in the frame, while the camera turns: the world's points get another one."""
    ramp = 1 + 0.5 * (np.arange(2 * H) < H)
    found = film_figures(film, predicted(film, [1.0] * 3) * ramp)
    assert found["scale_flicker"] == pytest.approx(0, abs=0.01)
    assert found["temporal_error"] > 0.05


def test_a_shot_is_aligned_as_one(film):
    disparity = 1 / predicted(film, [1.0] * 3) * 3 + 0.2
    aligned_m = aligned_shot_m(film, disparity, "disparity")
    known = np.isfinite(film.depths_m)
    np.testing.assert_allclose(aligned_m[known], film.depths_m[known], rtol=1e-5)
    flickering = aligned_shot_m(film, disparity * np.array([1.0, 1.3, 0.8])[:, None, None], "disparity")
    assert film_figures(film, flickering)["scale_flicker"] > 0.003, "no fit a frame"


TURNS = np.array([0, 4, 10, 11])  # columns


@pytest.fixture(scope="module")
def turning() -> Shot:
    """A camera that turns by whole columns, so that nothing is lost."""
    return Shot("turning", [np.roll(panorama(4 * H), turn, axis=1) for turn in TURNS])


def test_labels_that_turn_with_the_picture_do_not_change(turning):
    depth_m = 1 + panorama(4 * H, seed=1)[..., 0] / np.float32(20)
    labels_m = np.stack([np.roll(depth_m, turn, axis=1) for turn in TURNS])
    found = footage_figures(turning, labels_m)
    assert (found["pairs"], found["left_out"]) == (3, 0)
    assert found["temporal_change"] == pytest.approx(0, abs=1e-3), "the poles' own rows, if anything"
    assert found["scale_flicker"] == 0
    assert found["share"] > 0.9
    assert found["rotation_deg"] == pytest.approx(TURNS[-1] * 360 / (8 * H) / 3, abs=0.1)
    still = footage_figures(turning, np.stack([depth_m] * len(TURNS)))
    assert still["temporal_change"] > 0.05, "labels that stay in the frame"


def test_a_scale_that_flickers_is_measured(turning):
    factors = np.array([1.0, 1.3, 1.0, 0.8])[:, None, None]
    found = footage_figures(turning, factors * np.full((4 * H, 8 * H), 3.0))
    expected = (np.log(1.3) + np.log(1.3) + np.log(1 / 0.8)) / 3
    assert found["temporal_change"] == pytest.approx(expected)
    assert found["scale_flicker"] == pytest.approx(expected)


def test_only_what_has_a_distance_and_stays_is_compared(turning):
    labels_m = np.full((len(TURNS), 4 * H, 8 * H), 3.0)
    labels_m[:, : 2 * H] = np.inf
    found = footage_figures(turning, labels_m)
    assert found["share"] == pytest.approx(0.5, abs=0.05)
    moved = [rgb.copy() for rgb in turning.rgbs]
    rows, columns = slice(H, 2 * H), slice(3 * H, 4 * H)
    moved[1][rows, columns] = 255 - moved[1][rows, columns]
    labels_m = np.full((len(TURNS), 4 * H, 8 * H), 3.0)
    labels_m[1][rows, columns] = 1
    assert footage_figures(Shot("moved", moved), labels_m)["temporal_change"] < 0.01


def test_pairs_without_a_rotation_are_left_out(turning):
    labels_m = np.full((3, 4 * H, 8 * H), 3.0)
    cut = Shot("cut", [*turning.rgbs[:2], panorama(4 * H, seed=7)])
    found = footage_figures(cut, labels_m)
    assert (found["pairs"], found["left_out"], found["temporal_change"]) == (1, 1, 0)
    dark = footage_figures(Shot("dark", [np.zeros((4 * H, 8 * H, 3), np.uint8)] * 3), labels_m)
    assert (dark["pairs"], dark["left_out"]) == (0, 2)
    assert np.isnan(dark["temporal_change"])
    sky = footage_figures(Shot("sky", turning.rgbs[:3]), np.full_like(labels_m, np.inf))
    assert (sky["pairs"], sky["left_out"]) == (0, 2)
