"""The temperature, the threshold and the calibration error that are found are those that were put in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.tagging.calibration import calibrate, calibration_error, fit_temperature, fit_threshold


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are `temperature` times too large, and scenes drawn with the true probabilities."""
    rng = np.random.Generator(np.random.PCG64(1))
    log_odds = rng.normal(0, 2, count)
    return log_odds * temperature, rng.random(count) < 1 / (1 + np.exp(-log_odds))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_temperature_is_found_and_mends_the_calibration(temperature):
    log_odds, is_indoor = drawn(temperature)
    found = calibrate(log_odds.tolist(), is_indoor.tolist())
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    mended = calibrate((log_odds / found.temperature).tolist(), is_indoor.tolist())
    assert mended.calibration_error < 0.01
    assert (found.calibration_error < 0.01) == (temperature == 1.0)


def test_the_threshold_is_the_lowest_from_which_19_in_20_are_right():
    sure = np.repeat([0.55, 0.75, 0.95], 100)
    is_right = np.concatenate([np.arange(100) < right for right in (60, 80, 98)])
    assert fit_threshold(sure, is_right) == 0.76
    assert fit_threshold(sure, np.ones(300, bool)) == 0.5
    assert fit_threshold(sure, np.arange(300) % 2 == 0) == 0.5  # none does: that with the largest share


def test_the_error_by_hand():
    """Two bins: 0.7 said and half right, 0.9 said and all right."""
    sure, is_right = np.array([0.72, 0.68, 0.9, 0.9]), np.array([True, False, True, True])
    assert calibration_error(sure[:2], is_right[:2]) == pytest.approx(0.5 * abs(1 - 0.72) + 0.5 * 0.68)
    assert calibration_error(sure[2:], is_right[2:]) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.floats(-900, 900), st.booleans()), min_size=1, max_size=30))
def test_what_is_found_can_be_set(panoramas):
    log_odds, is_indoor = zip(*panoramas, strict=True)
    if len(set(is_indoor)) < 2:
        with pytest.raises(ValueError, match="both scenes"):
            calibrate(log_odds, is_indoor)
        return
    found = calibrate(log_odds, is_indoor)
    assert 0.5 <= found.threshold < 1
    assert found.temperature > 0
    assert 0 <= found.calibration_error <= 1


def test_no_temperature_changes_what_is_said():
    log_odds, is_indoor = drawn(1.0, 50)
    assert fit_temperature(log_odds, is_indoor) > 0
    assert calibrate(log_odds, is_indoor).accuracy == ((log_odds >= 0) == is_indoor).mean()
