"""Vertical edges make an estimate of the up vector precise, and leave it alone where there are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.horizon.sphere_view import rotation_to, turned
from dap_engine.models.horizon.tilt import up_vector
from dap_engine.models.horizon.tilt_edges import find_edges, sharpened
from tests.footage import panorama

HEIGHT = 256


def colonnade(seed: int = 0) -> np.ndarray:
    """A level panorama of vertical stripes of many widths, between a floor and a ceiling."""
    rng = np.random.Generator(np.random.PCG64(seed))
    stripes = np.repeat(rng.integers(0, 256, (60, 3)), rng.integers(3, 16, 60), axis=0)
    rgb = np.tile(np.resize(stripes, (2 * HEIGHT, 3)).astype(np.uint8), (HEIGHT, 1, 1))
    rgb[: HEIGHT // 4], rgb[-HEIGHT // 4 :] = 200, 60
    return rgb


def leaning(rgb: np.ndarray, roll_deg: float, pitch_deg: float) -> np.ndarray:
    return turned(rgb, erp.rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg).numpy(), HEIGHT)


def off_by(up: np.ndarray, angle_deg: float, towards_deg: float) -> np.ndarray:
    angle, towards = np.radians([angle_deg, towards_deg])
    near_z = np.array([np.sin(angle) * np.cos(towards), np.sin(angle) * np.sin(towards), np.cos(angle)])
    return rotation_to(up) @ near_z


def angle_deg(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))


@settings(max_examples=15)
@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(0, 14), st.floats(0, 360))
def test_vertical_edges_meet_at_the_zenith(roll_deg, pitch_deg, error_deg, towards_deg):
    up = up_vector(roll_deg, pitch_deg)
    edges = find_edges(leaning(colonnade(), roll_deg, pitch_deg))
    assert angle_deg(sharpened(20 * off_by(up, error_deg, towards_deg), edges), up) < 2.5


def test_edges_are_great_circles_through_their_rays():
    edges = find_edges(panorama(HEIGHT))
    assert np.allclose(np.linalg.norm(edges.normals, axis=0), 1, atol=1e-5)
    assert np.abs((edges.normals * edges.rays).sum(axis=0)).max() < 1e-5
    assert (edges.weights > 0).all()


@pytest.mark.parametrize("height", [64, 214, 256])
def test_where_there_is_nothing_to_see_the_estimate_stays(height):
    evidence = 5 * off_by(np.array([0.0, 0.0, 1.0]), 30, 70)
    edges = find_edges(np.full((height, 2 * height, 3), 90, np.uint8))
    assert angle_deg(sharpened(evidence, edges), evidence / 5) < 0.01


def test_a_sure_estimate_is_moved_less():
    edges = find_edges(leaning(colonnade(), 20, 10))
    wrong = off_by(up_vector(20, 10), 12, 0)
    moved = [angle_deg(sharpened(kappa * wrong, edges), wrong) for kappa in (20, 1e6)]
    assert moved[1] < 1 < 8 < moved[0]
