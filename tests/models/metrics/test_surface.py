"""Angles of normals on analytic surfaces, and the overlap of range masks."""

import math

import numpy as np
import pytest
import torch

from dap_engine.models.geometry.equirectangular import rays
from dap_engine.models.metrics.surface import NormalsAngle, RangeIoU, normal_angle_deg

H, W = 64, 128
ALL = torch.ones(H, W, dtype=torch.bool)
SPHERE_M = torch.full((H, W), 4.0, dtype=torch.float64)
RAYS = rays(H, W, dtype=torch.float64)


def test_the_same_surface_at_another_scale_has_the_same_normals():
    metric = NormalsAngle()
    metric.update(3 * SPHERE_M, SPHERE_M, ALL)
    assert metric.compute()["normal_deg"] == pytest.approx(0, abs=1e-9)
    assert metric.compute()["normal_within_11"] == 1


def test_a_floor_against_a_sphere_is_off_by_the_angle_of_the_ray():
    """The sphere's normal is −r, the floor's +z: their angle is that between the ray and straight down."""
    below = RAYS[..., 2] < -0.2
    floor_m = (-1.5 / RAYS[..., 2]).where(below, 1)
    angle = normal_angle_deg(floor_m, SPHERE_M, below)
    expected = torch.rad2deg(torch.arccos(-RAYS[..., 2]))
    known = ~angle.isnan()
    assert known.sum() > 0.8 * below.sum()
    torch.testing.assert_close(angle[known], expected[known], atol=1e-6, rtol=0)


def test_shares_and_weights_by_hand():
    below = RAYS[..., 2] < -0.2
    floor_m = (-1.5 / RAYS[..., 2]).where(below, 1)
    metric = NormalsAngle()
    metric.update(floor_m, SPHERE_M, below)
    found, known = metric.compute(), ~normal_angle_deg(floor_m, SPHERE_M, below).isnan()
    angle, area = torch.rad2deg(torch.arccos(-RAYS[..., 2]))[known], (1 - RAYS[..., 2] ** 2).sqrt()[known]
    assert found["normal_within_30"] == pytest.approx((angle < 30).double().mean().item())
    assert found["spherical"]["normal_deg"] == pytest.approx(((angle * area).sum() / area.sum()).item())
    assert found["spherical"]["normal_deg"] > found["normal_deg"] + 5


def test_a_hole_takes_its_neighbours_along_even_across_the_seam():
    mask = ALL.clone()
    mask[30, 0] = False
    missing = normal_angle_deg(SPHERE_M, SPHERE_M, mask).isnan().nonzero().tolist()
    assert missing == [[29, 0], [30, 0], [30, 1], [30, W - 1], [31, 0]]


def test_nothing_with_a_normal_has_no_angle():
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[5, 5] = True
    metric = NormalsAngle()
    metric.update(SPHERE_M, SPHERE_M, mask)
    assert math.isnan(metric.compute()["normal_deg"])


def test_range_overlap_by_hand():
    truth_m = np.array([[np.inf, np.inf, 5.0, np.nan, 5.0]])
    metric = RangeIoU()
    metric.update(np.array([[0.9, 0.1, 0.8, 1.0, 0.5]]), truth_m)
    assert metric.compute() == pytest.approx(1 / 3)
    metric.update(torch.full((2, 2), 0.7), torch.full((2, 2), torch.inf))
    assert metric.compute() == pytest.approx(5 / 7)


def test_a_range_that_nobody_speaks_of_has_no_overlap():
    metric = RangeIoU()
    metric.update(np.zeros((2, 2)), np.ones((2, 2)))
    assert math.isnan(metric.compute())
