"""Contours: counted by hand, around the seam too, and blind to scale."""

import math

import numpy as np
import pytest
import torch

from dap_engine.models.metrics.boundary import RATIOS, BoundaryF1, boundary_counts

H, W = 8, 16


def box(left: int, width: int = 4, near_m: float = 2.0, far_m: float = 10.0) -> torch.Tensor:
    """A pillar from pole to pole before a wall; columns are counted around."""
    depth_m = torch.full((H, W), far_m, dtype=torch.float64)
    depth_m[:, torch.arange(left, left + width) % W] = near_m
    return depth_m


ALL = torch.ones(H, W, dtype=torch.bool)


def figures(prediction_m, target_m, mask=ALL) -> dict:
    metric = BoundaryF1()
    metric.update(prediction_m, target_m, mask)
    return metric.compute()


def test_two_sides_of_a_pillar_are_two_columns_of_contours():
    counts = boundary_counts(box(3), box(3), ALL)
    assert counts.tolist() == [[2 * H] * 3] * len(RATIOS)


def test_by_hand_where_one_side_is_off():
    """The right side of the wider pillar is missed; its left side is found; a step of 10 % counts at some ratios."""
    found = figures(box(3, width=5), box(3, width=4))
    assert found["boundary_f1"] == pytest.approx(0.5)
    weights = np.array(RATIOS) / np.sum(RATIOS)
    weak = figures(box(3, far_m=2.2), box(3))
    assert weak["boundary_recall"] == pytest.approx(weights[np.array(RATIOS) < 1.1].sum())


def test_the_right_place_but_the_wrong_way_round_is_no_agreement():
    assert figures(box(3), box(3, near_m=10, far_m=2))["boundary_f1"] == 0


@pytest.mark.parametrize("shift", [0, 5, 11, 14])
def test_no_seam(shift):
    """A pillar across the seam counts as one in the middle."""
    assert figures(box(shift), box(shift))["boundary_f1"] == 1
    assert figures(box(shift, width=5), box(shift))["boundary_f1"] == pytest.approx(0.5)


def test_scale_does_not_matter():
    assert figures(7 * box(3, width=5), box(3)) == figures(box(3, width=5), box(3))


def test_pairs_with_an_unknown_pixel_do_not_count():
    mask = ALL.clone()
    mask[:, 3] = False  # the left column of the pillar, and so its left side
    counts = boundary_counts(box(3, width=5), box(3), mask)
    assert counts.tolist() == [[0, H, H]] * len(RATIOS)


def test_an_image_without_contours_is_left_out():
    metric = BoundaryF1()
    flat = torch.full((H, W), 5.0)
    metric.update(torch.stack([box(3), box(4)]), torch.stack([box(3), flat]), torch.stack([ALL, ALL]))
    assert metric.compute()["boundary_f1"] == 1
    assert metric.compute()["pooled"]["boundary_precision"] == pytest.approx(0.5)
    assert math.isnan(figures(flat, flat)["boundary_f1"])
