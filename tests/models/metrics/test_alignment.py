"""Alignment undoes exactly what it is to undo, and is the least-squares solution where it cannot."""

import numpy as np
import pytest
import torch

from dap_engine.models.metrics.alignment import align

RNG = np.random.default_rng(1)
TRUTH_M = torch.from_numpy(RNG.uniform(0.5, 60, (3, 8, 16)))
MASK = torch.from_numpy(RNG.random((3, 8, 16)) > 0.3)
SCALE, SHIFT = torch.tensor([0.1, 3.0, 40.0])[:, None, None], torch.tensor([0.2, -1.0, 5.0])[:, None, None]


@pytest.mark.parametrize(
    ("prediction", "alignment"),
    [
        (TRUTH_M, "none"),
        (TRUTH_M * SCALE, "median"),
        (TRUTH_M * SCALE + SHIFT, "scale-shift"),
        (SCALE / TRUTH_M + SHIFT, "disparity"),
    ],
)
def test_it_gives_the_truth_back(prediction, alignment):
    spoilt = prediction.where(MASK, torch.nan)  # what is masked has no part
    aligned = align(spoilt, TRUTH_M.where(MASK, torch.inf), MASK, alignment)
    torch.testing.assert_close(aligned[MASK], TRUTH_M[MASK], rtol=1e-9, atol=0)


@pytest.mark.parametrize(("alignment", "space"), [("scale-shift", lambda d: d), ("disparity", lambda d: 1 / d)])
def test_it_is_the_least_squares_solution(alignment, space):
    prediction, truth_m, mask = RNG.uniform(1, 5, (8, 16)), RNG.uniform(2, 30, (8, 16)), RNG.random((8, 16)) > 0.5
    design = np.stack([prediction[mask], np.ones(mask.sum())], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(design, space(truth_m)[mask], rcond=None)
    aligned = align(*map(torch.from_numpy, (prediction, truth_m, mask)), alignment).numpy()
    np.testing.assert_allclose(space(aligned), scale * prediction + shift, rtol=1e-9)


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    prediction, truth_m = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.full((1, 4), 6.0)
    aligned = align(prediction, truth_m, torch.ones(1, 4, dtype=torch.bool), "median")
    torch.testing.assert_close(aligned, prediction.double() * 2)


def test_what_falls_below_zero_stays_a_distance():
    prediction, truth_m = torch.tensor([[0.0, 10.0, 10.0]]), torch.tensor([[1.0, 90.0, 0.5]])
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert (align(-prediction, truth_m, everywhere, "scale-shift") > 0).all()
    aligned = align(torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[99.0, 98.0, 0.4]]), everywhere, "disparity")
    assert aligned.max() == pytest.approx(100)


def test_a_constant_prediction_becomes_the_mean():
    truth_m = torch.tensor([[2.0, 4.0]])
    aligned = align(torch.full((1, 2), 7.0), truth_m, torch.ones(1, 2, dtype=torch.bool), "scale-shift")
    assert aligned.tolist() == [[3.0, 3.0]]


def test_a_prediction_of_zeros_has_a_median_of_a_millimetre():
    """Half of the pixels and more: there is a scale all the same, and so nothing is nan."""
    prediction, truth_m = torch.tensor([[0.0, 0.0, 0.0, 3.0]]), torch.full((1, 4), 2.0)
    aligned = align(prediction, truth_m, torch.ones(1, 4, dtype=torch.bool), "median")
    torch.testing.assert_close(aligned, torch.tensor([[2.0, 2.0, 2.0, 6000.0]]).double())
