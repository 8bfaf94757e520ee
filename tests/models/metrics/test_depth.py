import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dap_engine.models.metrics.depth import NAMES, DepthMetrics, depth_metrics


def _images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target_m = rng.uniform(0.5, 90, (count, 8, 16))
    return target_m * rng.lognormal(0, 0.3, target_m.shape), target_m, rng.random(target_m.shape) > 0.3


def test_names_are_those_of_the_command_line() -> None:
    metrics = depth_metrics(*_images(1))
    assert set(metrics) == {*NAMES, "official", "spherical"}
    assert set(metrics["official"]) == set(metrics["spherical"]) == set(NAMES)


def test_values_by_hand() -> None:
    metrics = depth_metrics(np.array([[2.0, 4.0]]), np.array([[1.0, 4.0]]), np.ones((1, 2), bool))
    assert metrics["abs_rel"] == pytest.approx(0.5)
    assert metrics["sq_rel"] == pytest.approx(0.5)
    assert metrics["rmse"] == pytest.approx(math.sqrt(0.5))
    assert metrics["rmse_log"] == pytest.approx(math.log(2) / math.sqrt(2))
    assert metrics["mae"] == pytest.approx(0.5)
    assert metrics["log10"] == pytest.approx(math.log10(2) / 2)
    assert [metrics[f"delta{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 0.5]


def test_a_ratio_on_the_threshold_does_not_count() -> None:
    metrics = depth_metrics(np.array([[1.25, 1.3, 1.9]]), np.ones((1, 3)), np.ones((1, 3), bool))
    assert metrics["delta1"] == 0
    assert metrics["delta2"] == pytest.approx(2 / 3)


def test_spherical_weights_by_area() -> None:
    """An error in the top one of four rows weighs its share of the sphere, (1 − sin 45°) / 2."""
    target_m = np.full((4, 8), 10.0)
    prediction_m = target_m.copy()
    prediction_m[0] = 20
    metrics = depth_metrics(prediction_m, target_m, np.ones((4, 8), bool))
    assert metrics["abs_rel"] == pytest.approx(0.25)
    assert metrics["spherical"]["abs_rel"] == pytest.approx((1 - math.sin(math.pi / 4)) / 2)


def test_what_is_masked_has_no_part() -> None:
    prediction_m, target_m, mask = _images(1)
    expected = depth_metrics(prediction_m, target_m, mask)
    prediction_m[~mask], target_m[~mask] = np.nan, np.inf
    assert depth_metrics(torch.from_numpy(prediction_m), torch.from_numpy(target_m), torch.from_numpy(mask)) == expected


def test_a_prediction_beyond_the_range_counts_as_100_m() -> None:
    metrics = depth_metrics(np.array([[np.inf]]), np.array([[50.0]]), np.ones((1, 1), bool))
    assert metrics["mae"] == 50


@pytest.mark.parametrize(
    ("prediction_m", "target_m", "mask", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 5)), np.ones((2, 4)), "one shape"),
        (np.ones((2, 4)), np.ones((2, 4)), np.zeros((2, 4)), "no pixel"),
        (np.full((2, 4), np.nan), np.ones((2, 4)), np.ones((2, 4)), "predicted"),
        (np.zeros((2, 4)), np.ones((2, 4)), np.ones((2, 4)), "predicted"),
        (np.ones((2, 4)), np.full((2, 4), np.inf), np.ones((2, 4)), "true distance"),
    ],
)
def test_what_cannot_be_measured_is_refused(prediction_m, target_m, mask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        depth_metrics(prediction_m, target_m, mask)


@pytest.mark.parametrize("batches", [[5], [1, 4], [2, 2, 1]])
def test_a_data_set_is_the_mean_of_its_images_in_any_batches(batches: list[int]) -> None:
    prediction_m, target_m, mask = map(torch.from_numpy, _images(5))
    metric = DepthMetrics()
    start = 0
    for size in batches:
        part = slice(start, start + size)
        metric.update(prediction_m[part], target_m[part], mask[part])
        start += size
    single = [depth_metrics(p, t, m) for p, t, m in zip(prediction_m, target_m, mask, strict=True)]
    computed = metric.compute()
    assert computed["samples"] == 5
    for name in NAMES:
        assert computed[name] == pytest.approx(np.mean([image[name] for image in single]), rel=1e-12)
        assert computed["spherical"][name] == pytest.approx(np.mean([i["spherical"][name] for i in single]), rel=1e-12)


def test_images_without_a_valid_pixel_are_not_counted() -> None:
    prediction_m, target_m, mask = map(torch.from_numpy, _images(2))
    mask[1] = False
    metric = DepthMetrics()
    metric.update(prediction_m, target_m, mask)
    computed = metric.compute()
    assert computed["samples"] == 1
    assert computed["abs_rel"] == pytest.approx(depth_metrics(prediction_m[0], target_m[0], mask[0])["abs_rel"])


@pytest.mark.shared
@pytest.mark.parametrize("seed", [0, 1])
def test_official_is_what_the_published_code_gives(shared_data: Path, seed: int) -> None:
    reference = json.loads((shared_data.parent / "published" / "metrics_reference.json").read_text())[str(seed)]
    rng = np.random.Generator(np.random.PCG64(seed))
    target_m = rng.uniform(0.05, 99, (1, 1, 64, 128)).astype(np.float32)
    prediction_m = (target_m * rng.lognormal(0, 0.25, target_m.shape)).astype(np.float32)
    mask = rng.random(target_m.shape) > 0.2
    official = depth_metrics(prediction_m, target_m, mask)["official"]
    for name, value in reference.items():
        assert official[name.removeprefix("official_")] == pytest.approx(value, rel=1e-6)


def test_pooled_figures_are_those_of_all_pixels_together() -> None:
    prediction_m, target_m, mask = _images(3)
    mask[0, :6] = False  # so that the images do not weigh the same
    metric = DepthMetrics()
    metric.update(prediction_m, target_m, mask)
    pooled, together = metric.compute()["pooled"], depth_metrics(prediction_m, target_m, mask)
    for name in NAMES:
        for found, expected in ((pooled, together), *((pooled[v], together[v]) for v in ("official", "spherical"))):
            assert found[name] == pytest.approx(expected[name], rel=1e-12)
    assert pooled["rmse"] != pytest.approx(metric.compute()["rmse"], rel=1e-3)


def test_bands_tell_errors_apart_by_true_distance() -> None:
    target_m = np.array([[5.0, 10.0, 15.0, 40.0, 100.0, 120.0]])
    prediction_m = target_m * np.array([[2, 1, 3, 1.5, 1.1, 9]])
    metric = DepthMetrics()
    metric.update(prediction_m, target_m, np.ones((1, 6), bool))
    bands = metric.compute()["bands"]
    assert list(bands) == ["0-10", "10-20", "20-50", "50-100"]
    assert [band["abs_rel"] for band in bands.values()] == pytest.approx([0.5, 2, 0.5, 0.1])
    assert [band["share"] for band in bands.values()] == pytest.approx([2 / 6, 1 / 6, 1 / 6, 1 / 6])
    assert bands["0-10"]["spherical"]["rmse"] == pytest.approx(5 / math.sqrt(2))


def test_a_band_without_a_pixel_has_no_figures() -> None:
    metric = DepthMetrics()
    metric.update(np.full((2, 4), 3.0), np.full((2, 4), 3.0), np.ones((2, 4), bool))
    bands = metric.compute()["bands"]
    assert (bands["0-10"]["delta1"], bands["20-50"]["share"]) == (1, 0)
    assert math.isnan(bands["20-50"]["delta1"])


@settings(max_examples=20)
@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(1, 5)))
def test_order_and_batches_do_not_change_a_bit(order: list[int], cuts: set[int]) -> None:
    maps = [torch.from_numpy(m) for m in _images(6, seed=4)]
    whole, parts = DepthMetrics(), DepthMetrics()
    whole.update(*maps)
    for part in np.split(np.array(order), sorted(cuts)):
        parts.update(*(m[part] for m in maps))
    assert parts.compute() == whole.compute()


def test_alignment_is_of_every_image_by_itself() -> None:
    prediction_m, target_m, mask = _images(3)
    turned_m = prediction_m * np.array([2.0, 0.25, 7.0])[:, None, None]
    plain, aligned = DepthMetrics("median"), DepthMetrics("median")
    plain.update(prediction_m, target_m, mask)
    aligned.update(turned_m, target_m, mask)
    assert aligned.compute()["abs_rel"] == pytest.approx(plain.compute()["abs_rel"], rel=1e-12)


@pytest.mark.parametrize("shapes", [((2, 4), (2, 5)), ((1, 2, 4), (2, 2, 4)), ((4,), (4,))])
def test_updates_with_maps_that_do_not_fit_are_refused(shapes: tuple) -> None:
    with pytest.raises(ValueError, match="one shape"):
        DepthMetrics("median").update(np.ones(shapes[0]), np.ones(shapes[1]), np.ones(shapes[0], bool))


def test_without_an_image_there_is_no_figure() -> None:
    metric = DepthMetrics()
    metric.update(np.ones((1, 2, 4)), np.full((1, 2, 4), np.inf), np.zeros((1, 2, 4), bool))
    computed = metric.compute()
    assert computed["samples"] == 0
    assert math.isnan(computed["abs_rel"])
    assert math.isnan(computed["pooled"]["spherical"]["delta1"])
