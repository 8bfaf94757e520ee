"""The blind predictor: row means per scene type, and nothing of the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dap_engine.models.evaluation.blind import BlindPredictor

DEPTHS = arrays(np.float32, (3, 4, 8), elements=st.floats(0.5, 90, width=32) | st.sampled_from([np.nan, np.inf]))


def rows(*depths_m: float) -> np.ndarray:
    """A map (H, 2H) of one distance a row."""
    return np.repeat(np.array(depths_m, np.float32)[:, None], 2 * len(depths_m), axis=1)


@given(DEPTHS)
def test_it_says_the_mean_of_each_row_over_all_its_distances(depths_m):
    known = np.isfinite(depths_m)
    if not known.any():
        with pytest.raises(ValueError, match="no distance"):
            BlindPredictor((depth_m, "indoor") for depth_m in depths_m)
        return
    predicted = BlindPredictor((depth_m, "indoor") for depth_m in depths_m).predict("indoor", 4)
    assert predicted.shape == (4, 8)
    assert np.isfinite(predicted).all()
    for row in range(4):
        if known[:, row].any():
            np.testing.assert_allclose(predicted[row], depths_m[:, row][known[:, row]].mean(dtype=float), rtol=1e-5)


def test_scene_types_are_apart_and_an_unknown_one_gets_their_mean():
    predictor = BlindPredictor([(rows(1, 2), "indoor"), (rows(3, 4), "indoor"), (rows(10, 20), "outdoor")])
    assert (predictor.predict("indoor", 2) == rows(2, 3)).all()
    assert (predictor.predict("outdoor", 2) == rows(10, 20)).all()
    assert (predictor.predict("cave", 2) == rows(6, 11.5)).all()


def test_a_row_that_is_always_sky_takes_its_nearest_neighbour_s_distance():
    predictor = BlindPredictor([(rows(np.inf, np.inf, 8, 2), "outdoor")])
    assert (predictor.predict("outdoor", 4) == rows(8, 8, 8, 2)).all()


def test_another_height_is_interpolated():
    predictor = BlindPredictor([(rows(1, 3), "indoor")])
    np.testing.assert_allclose(predictor.predict("indoor", 4), rows(1, 1.5, 2.5, 3))


def test_nothing_to_learn_from():
    with pytest.raises(ValueError, match="nothing to learn"):
        BlindPredictor([])
