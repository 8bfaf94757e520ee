"""Views by table look-up agree with the geometry of panoramas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.horizon.sphere_view import erp_rays, rotation_to, turned, view
from tests.footage import panorama

unit = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


def test_a_view_along_a_panoramas_own_rays_is_the_panorama():
    rgb = panorama(64)
    assert np.abs(view(rgb, erp_rays(64)).astype(int) - rgb).max() <= 6


@pytest.mark.parametrize("angles", [(0, 0, 90), (30, 0, 0), (0, -50, 0), (160, 20, -70)])
def test_turning_is_that_of_the_geometry(angles):
    roll_deg, pitch_deg, yaw_deg = angles
    rgb = panorama(96)
    rotation = erp.rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg, yaw_deg=yaw_deg)
    expected = erp.rotate(torch.from_numpy(rgb).permute(2, 0, 1)[None].double(), rotation)[0].permute(1, 2, 0).numpy()
    difference = np.abs(turned(rgb, rotation.numpy(), 96) - expected)
    assert difference.mean() < 1
    assert np.quantile(difference, 0.99) < 6


@given(unit)
def test_the_shortest_rotation_to_a_vector(vector):
    up = np.array(vector) / np.linalg.norm(vector)
    rotation = rotation_to(up)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.allclose(rotation @ [0, 0, 1], up, atol=1e-6)
    assert np.trace(rotation) == pytest.approx(1 + 2 * up[2], abs=1e-6)  # the angle is that between z and up
    assert np.allclose(rotation_to(np.array([0, 0, -1.0])) @ [0, 0, 1], [0, 0, -1])
