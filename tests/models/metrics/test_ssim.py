"""Structural similarity: torchmetrics' own away from seams and holes, wrapped around, and blind to what is masked."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from dap_engine.models.metrics.ssim import DepthSsim, ssim

H, W = 32, 64
GENERATOR = torch.Generator().manual_seed(0)
TRUTH_M = 5 + 4 * torch.rand(H, W, generator=GENERATOR, dtype=torch.float64)
PREDICTION_M = TRUTH_M + 0.5 * torch.randn(H, W, generator=GENERATOR, dtype=torch.float64)
ALL = torch.ones(H, W, dtype=torch.bool)


@pytest.mark.parametrize("quantity", ["depth", "disparity"])
def test_it_is_that_of_torchmetrics(quantity):
    p, t = (m if quantity == "depth" else 1 / m for m in (PREDICTION_M, TRUTH_M))
    _, expected = structural_similarity_index_measure(
        p[None, None], t[None, None], gaussian_kernel=True, sigma=1.5, kernel_size=11,
        data_range=t.max().item(), return_full_image=True,
    )  # fmt: skip
    found = ssim(PREDICTION_M, TRUTH_M, ALL, quantity)
    inside = (slice(6, -6), slice(6, -6))
    torch.testing.assert_close(found.similarity[inside], expected[0, 0][inside], atol=1e-8, rtol=0)
    assert found.value.item() == pytest.approx(found.similarity.mean().item())


def test_equal_maps_are_wholly_similar_and_differences_lie_between_zero_and_one():
    assert ssim(TRUTH_M, TRUTH_M, ALL).value.item() == pytest.approx(1)
    found = ssim(PREDICTION_M.flip(-1), TRUTH_M, ALL)
    assert 0 <= found.difference.min() < found.difference.max() <= 1
    torch.testing.assert_close(found.difference, (1 - found.similarity) / 2)


@pytest.mark.parametrize("turn", [1, 20, 32])
def test_no_seam(turn):
    still, turned = ssim(PREDICTION_M, TRUTH_M, ALL), ssim(PREDICTION_M.roll(turn, -1), TRUTH_M.roll(turn, -1), ALL)
    torch.testing.assert_close(turned.similarity, still.similarity.roll(turn, -1), atol=1e-9, rtol=0)


def test_what_is_masked_has_no_part():
    mask = torch.rand(H, W, generator=torch.Generator().manual_seed(2)) > 0.3
    expected = ssim(PREDICTION_M, TRUTH_M, mask)
    found = ssim(PREDICTION_M.where(mask, torch.nan), TRUTH_M.where(mask, torch.inf), mask)
    torch.testing.assert_close(found.similarity, expected.similarity, equal_nan=True)
    assert found.similarity.isnan().equal(~mask)


def test_a_data_set_is_the_mean_of_its_images_and_areas_weigh():
    truth_m = torch.stack([TRUTH_M, TRUTH_M])
    spoilt_top_m = TRUTH_M.clone()
    spoilt_top_m[:4] = spoilt_top_m[:4].flip(-1)
    metric = DepthSsim()
    metric.update(torch.stack([TRUTH_M, spoilt_top_m]), truth_m, torch.stack([ALL, ALL]))
    found = metric.compute()
    assert found["ssim_depth"] == pytest.approx((1 + ssim(spoilt_top_m, TRUTH_M, ALL).value.item()) / 2)
    assert found["spherical"]["ssim_depth"] > found["ssim_depth"] + 0.02  # what is spoilt is small on the sphere
