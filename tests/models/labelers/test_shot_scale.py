"""The scale of a shot: steps between frames, and factors that leave what changes slowly."""

import numpy as np
import pytest

from dap_engine.models.labelers.shot_scale import scale_step, steady_factors

ROOM_M = np.random.default_rng(0).uniform(1, 9, (32, 64))


def test_a_step_is_what_most_of_the_sphere_does():
    after_m = 1.2 * ROOM_M
    after_m[:8] *= 5  # a part that has moved
    after_m[20, :] = np.inf
    before_m = ROOM_M.copy()
    before_m[25, :] = np.nan
    assert scale_step(before_m, after_m) == pytest.approx(np.log(1.2))
    assert scale_step(ROOM_M, np.full_like(ROOM_M, np.inf)) == 0
    assert scale_step(np.tile(ROOM_M, (16, 16)), np.tile(after_m, (16, 16))) == pytest.approx(np.log(1.2))


def test_flicker_goes_and_a_slow_change_stays():
    slow, flicker = 0.02 * np.arange(40), 0.3 * (-1.0) ** np.arange(40)
    factors = steady_factors(np.diff(slow + flicker).tolist(), window=4)
    left = slow + flicker + np.log(factors)
    inside = slice(4, -4)
    assert abs(np.diff(left[inside])).max() < 0.09
    assert np.abs(left - slow)[inside].max() < 0.05
    np.testing.assert_allclose(steady_factors([0.02] * 39, window=4)[inside], 1, atol=1e-9)
    np.testing.assert_allclose(steady_factors([], window=4), [1])
