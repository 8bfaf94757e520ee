"""Errors of disparity: by hand, by image and pooled."""

import numpy as np
import pytest
import torch

from dap_engine.models.metrics.disparity import DISPARITY_NAMES, DisparityErrors

TRUE_PX = np.array([[10.0, 10, 10, 10, 100, 100]])
ERROR_PX = np.array([[0.5, -1.5, 2.5, 4.0, 4.0, -6.0]])
ALL = np.ones((1, 6), bool)
EXPECTED = {"epe_px": 18.5 / 6, "bad_1": 5 / 6, "bad_2": 4 / 6, "bad_3": 3 / 6, "d1": 2 / 6}


def test_by_hand():
    """Of an error of 4 pixels, 5 % is less where 10 are true, and more where 100 are."""
    metric = DisparityErrors()
    metric.update(TRUE_PX + ERROR_PX, TRUE_PX, ALL)
    found = metric.compute()
    assert {name: found[name] for name in DISPARITY_NAMES} == pytest.approx(EXPECTED)
    assert found["pooled"] == pytest.approx(EXPECTED)


def test_images_count_alike_and_pixels_do_when_pooled():
    metric = DisparityErrors()
    metric.update(TRUE_PX + ERROR_PX, TRUE_PX, ALL)
    metric.update(TRUE_PX + 10, TRUE_PX, torch.tensor([[True] + [False] * 5]))
    found = metric.compute()
    assert found["epe_px"] == pytest.approx((18.5 / 6 + 10) / 2)
    assert found["pooled"]["epe_px"] == pytest.approx(28.5 / 7)
