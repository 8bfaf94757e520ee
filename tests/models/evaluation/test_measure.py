"""The protocol on single panoramas, by hand: the mask at its threshold, the sky, the seam, and what has no truth."""

import math

import numpy as np
import pytest

from dap_engine.models.datasets.base import Labelled
from dap_engine.models.evaluation.measure import Measurement
from dap_engine.models.labelers.load import Estimate
from dap_engine.models.metrics.equivariance import seam_ratio

H, W = 8, 16


def flat(distance_m: float) -> np.ndarray:
    return np.full((H, W), distance_m, np.float32)


def labelled(depth_m: np.ndarray) -> Labelled:
    return Labelled("a", np.zeros((H, W, 3), np.uint8), depth_m, "outdoor")


def measured(depth_m: np.ndarray, estimate: Estimate, **options) -> dict:
    measurement = Measurement(**options)
    measurement.add(labelled(depth_m), estimate)
    return measurement.figures()


@pytest.mark.parametrize(("beyond", "distance_m"), [(0.499, 20), (0.5, 100), (0.501, 100)])
def test_where_the_published_evaluation_puts_100_m(beyond: float, distance_m: float) -> None:
    """1 − mask ≤ 0.5; while what is more probably beyond the range than not is what we take for it."""
    figures = measured(flat(20), Estimate(flat(20), flat(beyond)))
    assert figures["official_masked"]["mae"] == pytest.approx(distance_m - 20)
    assert figures["mae"] == 0
    assert figures["range_iou"] == (0 if beyond > 0.5 else None)


def test_a_mask_for_a_nearer_threshold_is_judged_by_that() -> None:
    """It says so left of column 8: of 6 + 2 columns truly beyond 20 m, it finds 6, and 2 are not."""
    truth_m, beyond = flat(10), flat(0.1)
    truth_m[:, 2:8], truth_m[:, 8:10], truth_m[:, 10] = 30, np.inf, np.nan
    beyond[:, :8] = 0.9
    figures = measured(truth_m, Estimate(truth_m.clip(max=100), beyond, nearer_m=20.0))
    assert (figures["range_iou"], figures["range_threshold_m"]) == (6 / 10, 20)
    assert "official_masked" not in figures
    assert figures["abs_rel"] == 0
    plain = measured(truth_m, Estimate(truth_m.clip(max=100), beyond))
    assert (plain["range_iou"], plain["range_threshold_m"]) == (0, 100)
    assert plain["official_masked"]["mae"] > 0


def test_each_distance_band_is_measured_with_and_without_the_mask() -> None:
    """Of 8 columns at 5 m, 4 of which are 10 % off, the mask leaves 6; of 8 at 30 m, 50 % off, it leaves none."""
    truth_m, predicted_m, beyond = flat(5), flat(5), flat(0.1)
    truth_m[:, 8:], predicted_m[:, 8:], beyond[:, 8:] = 30, 45, 0.9
    predicted_m[:, :4], beyond[:, :2] = 5.5, 0.51
    for nearer_m in (20.0, None):
        figures = measured(truth_m, Estimate(predicted_m, beyond, nearer_m))
        assert figures["bands"]["0-10"]["abs_rel"] == pytest.approx(0.05)
        assert figures["bands"]["20-50"]["abs_rel"] == pytest.approx(0.5)
        near, far = figures["bands_masked"]["0-10"], figures["bands_masked"]["20-50"]
        assert (near["pixels"], near["share_left"]) == (6 * H, 0.75)
        assert near["abs_rel"] == pytest.approx(2 * 0.1 / 6)
        assert (far["pixels"], far["share_left"], far["abs_rel"]) == (0, 0, None)
        assert figures["bands_masked"]["50-100"]["share_left"] is None
    assert "bands_masked" not in measured(truth_m, Estimate(predicted_m))


def rough(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(2, 30, (H, W)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "alignment"),
    [(rough(), "none"), (4 / rough() + 0.5, "disparity"), (3 * rough() - 1, "scale-shift"), (7 * rough(), "median")],
)
def test_the_seam_is_one_of_distances_whatever_a_model_gives(values: np.ndarray, alignment) -> None:
    """So the same scene has the same seam, which disparities as they come would not."""
    figures = measured(rough(), Estimate(values.astype(np.float32)), alignment=alignment)
    assert figures["sphere"]["seam_ratio"] == pytest.approx(seam_ratio(rough()), rel=1e-3)
    assert seam_ratio(1 / rough()) != pytest.approx(seam_ratio(rough()), rel=0.1)


def test_where_there_is_nothing_to_align_to_there_is_no_seam() -> None:
    assert measured(flat(np.inf), Estimate(rough()), alignment="disparity")["sphere"]["seam_ratio"] is None
    seam = measured(flat(np.inf), Estimate(rough()))["sphere"]["seam_ratio"]
    assert seam == pytest.approx(seam_ratio(rough()))


def test_the_seam_of_a_data_set_is_the_middle_one() -> None:
    measurement = Measurement()
    for seed in range(3):
        measurement.add(labelled(rough()), Estimate(rough(seed)))
    assert measurement.figures()["sphere"]["seam_ratio"] == np.median([seam_ratio(rough(seed)) for seed in range(3)])


def test_the_sky_is_never_nearer_than_what_stands_before_it() -> None:
    """Walls may stand farther away than 100 m: how far tells nothing of the edge of the sky."""
    truth_m, predicted_m = flat(120), flat(110)
    truth_m[:, 4:6], predicted_m[:, 4:6] = 60, 60
    truth_m[:3] = np.inf
    beyond = np.isinf(truth_m).astype(np.float32)
    assert measured(truth_m, Estimate(predicted_m, beyond))["sharpness"]["boundary_f1"] == 1
    predicted_m[:3] = np.inf
    assert measured(truth_m, Estimate(predicted_m))["sharpness"]["boundary_f1"] == 1


def test_a_prediction_of_zeros_can_be_aligned_by_its_median() -> None:
    """It is then wrong by far, and measured as such."""
    values = flat(0)
    values[0, :3] = 5
    figures = measured(flat(2), Estimate(values), alignment="median")
    assert figures["delta1"] == pytest.approx(1 - 3 / (H * W))
    assert math.isfinite(figures["abs_rel"])


def test_panoramas_without_any_truth_are_counted() -> None:
    measurement, hole = Measurement(), flat(3)
    hole[2:] = np.nan
    for depth_m in (flat(3), flat(np.nan), hole, flat(np.inf), flat(np.nan)):
        measurement.add(labelled(depth_m), Estimate(flat(3)))
    figures = measurement.figures()
    assert (figures["left_out"], figures["samples"], figures["abs_rel"]) == (2, 2, 0)
