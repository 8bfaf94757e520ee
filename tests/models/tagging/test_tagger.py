"""Thresholds, and what `make_tagger` refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.tagging.tagger import make_tagger, scene_of

PROBABILITIES = st.floats(0, 1)


@given(p=PROBABILITIES, threshold=st.floats(0.5, 1))
def test_unsure_is_exactly_what_lies_between_the_thresholds(p, threshold):
    scene = scene_of(p, threshold)
    assert (scene == "indoor") == (p >= threshold)
    assert (scene == "unsure") == (1 - threshold < p < threshold)


@given(p=st.floats(0.001, 0.499), threshold=st.floats(0.5, 1))
def test_more_certain_never_turns_a_scene_around(p, threshold):
    assert scene_of(p, threshold) in ("outdoor", "unsure")
    assert scene_of(1 - p, threshold) in ("indoor", "unsure")


@pytest.mark.parametrize("threshold", [0.4, 1.1, float("nan")])
def test_a_threshold_that_decides_nothing_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        make_tagger(threshold=threshold)


@given(p=st.floats(0.01, 0.99))
def test_a_temperature_divides_the_log_odds(p):
    rgb = np.zeros((32, 64, 3), np.uint8)
    odds = make_tagger().log_odds([make_tagger().model.prepare(rgb)])[0]
    temperature = odds / np.log(p / (1 - p)) if p != 0.5 else 1.0
    if temperature > 0 and p != 0.5:
        assert make_tagger(temperature=temperature).tag([rgb])[0].p_indoor == pytest.approx(p)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        make_tagger(temperature=temperature)
