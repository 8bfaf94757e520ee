"""How labels of consecutive frames agree: by hand on a room that a camera walks and turns in."""

import numpy as np
import pytest
import torch

from dap_engine.models.datasets.film import Film
from dap_engine.models.evaluation.temporal import aligned_shot_m, temporal_figures
from dap_engine.models.geometry.equirectangular import rays, rotation_matrix

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
        found = temporal_figures(film, predicted(film, [factor] * 3))
        assert found["temporal_error"] == pytest.approx(0, abs=1e-6)
        assert found["scale_flicker"] == pytest.approx(0, abs=1e-6)
        assert found["abs_rel"] == pytest.approx(factor - 1, abs=1e-6)


def test_flicker_is_measured(film):
    found = temporal_figures(film, predicted(film, [1.0, 1.2, 0.9]))
    expected = (np.log(1.2) + np.log(1.2 / 0.9)) / 2
    assert found["scale_flicker"] == pytest.approx(expected, rel=1e-6)
    assert found["temporal_error"] == pytest.approx(expected, rel=1e-6)


def test_what_moves_within_the_frame_is_no_flicker(film):
    """An error that stays where it is in the frame, while the camera turns: the world's points get another one."""
    ramp = 1 + 0.5 * (np.arange(2 * H) < H)
    found = temporal_figures(film, predicted(film, [1.0] * 3) * ramp)
    assert found["scale_flicker"] == pytest.approx(0, abs=0.01)
    assert found["temporal_error"] > 0.05


def test_a_shot_is_aligned_as_one(film):
    disparity = 1 / predicted(film, [1.0] * 3) * 3 + 0.2
    aligned_m = aligned_shot_m(film, disparity, "disparity")
    known = np.isfinite(film.depths_m)
    np.testing.assert_allclose(aligned_m[known], film.depths_m[known], rtol=1e-5)
    flickering = aligned_shot_m(film, disparity * np.array([1.0, 1.3, 0.8])[:, None, None], "disparity")
    assert temporal_figures(film, flickering)["scale_flicker"] > 0.003, "no fit a frame"
