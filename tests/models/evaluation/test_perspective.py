"""Perspective pictures, one by one: what predictions count as."""

import numpy as np
import pytest

from dap_engine.models.datasets.perspective import Picture
from dap_engine.models.evaluation.perspective import PictureMeasurement

SIZE = (12, 16)


def test_beyond_the_range_counts_as_100_metres_whatever_the_camera():
    pair = Picture("a", np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.float32), focal_px=100, baseline_m=0.5)
    row = PictureMeasurement("none", is_stereo=True).add(pair, np.full(SIZE, np.inf, np.float32)).row
    assert row["mae"] == pytest.approx(100 - 50), "a pixel of disparity is 50 m"
    assert row["epe_px"] == pytest.approx(0.5)
