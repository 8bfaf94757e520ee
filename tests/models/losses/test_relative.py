import math

import pytest
import torch
from torch import Tensor

from dap_engine.models.losses.relative import (
    affine_invariant_loss,
    feature_alignment_loss,
    gradient_matching_loss,
    normalised,
    without_noisiest,
)

SHAPE = (2, 8, 16)
LOSSES = [affine_invariant_loss, gradient_matching_loss]


def _random(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, other, weight = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return one, other, weight + 0.1


def test_normalised_has_median_0_and_mean_deviation_1() -> None:
    values, _, weight = _random()
    weight[:, :, 3] = 0
    result = normalised(values, weight)
    for image in range(2):
        known = weight[image] > 0
        assert result[image][known].median().item() == pytest.approx(0, abs=1e-12)
        deviation = (weight[image] * result[image].abs()).sum() / weight[image].sum()
        assert deviation.item() == pytest.approx(1)
        assert (result[image][~known] == 0).all()


def test_affine_invariant_by_hand() -> None:
    """Medians 2 and 1, deviations 1 and 2: (−1.5, 0, 1.5) and (0, −.5, …)."""
    prediction, target = torch.tensor([[[0.5, 2.0, 3.5]]]), torch.tensor([[[4.0, 1.0, -2.0]]])
    weight = torch.ones(1, 1, 3)
    assert affine_invariant_loss(prediction, target, weight).item() == pytest.approx((1.5 + 0 + 1.5) * 2 / 3, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_scale_and_shift_cost_nothing_but_sign_does(loss) -> None:
    _, target, weight = _random()
    assert (loss(3 * target + 7, target, weight).abs() < 1e-9).all()
    assert (loss(-target, target, weight) > 0.5).all()


def test_the_noisiest_share_is_left_out_by_hand() -> None:
    """Of ten errors 0 … 9 and one that does not count, 30 % are the three largest."""
    error, weight = torch.arange(11.0).reshape(1, 1, 11) * torch.tensor([1, -1] * 5 + [1]), torch.ones(1, 1, 11)
    weight[..., 10], weight[..., 2] = 0, 3
    kept = without_noisiest(error, weight, 0.3)
    assert kept.tolist() == [[[1, 1, 3, 1, 1, 1, 1, 0, 0, 0, 0]]]
    assert without_noisiest(error, weight, 0.09).equal(weight)
    assert without_noisiest(error, weight * 0, 0.5).equal(weight * 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_outliers_cost_less_where_the_noisiest_are_left_out(loss) -> None:
    """Of 128 pixels, 12 are left out; 6 are wrong, by so little that medians and deviations stay nearly the same."""
    _, target, weight = _random()
    spoilt = target.clone()
    spoilt[:, 0, :6] += 0.2
    assert (loss(spoilt, target, weight, noisy_share=0.1) < 0.7 * loss(spoilt, target, weight)).all()
    assert (loss(3 * target + 7, target, weight, noisy_share=0.1).abs() < 1e-9).all()


def test_gradient_matching_by_definition() -> None:
    """Written out: differences to the next column, around the seam, and to the next row, where both are known."""
    prediction, target, weight = _random(shape=(1, 4, 8))
    weight[0, 1, 0] = weight[0, 2, 5] = 0
    error, w = (normalised(prediction, weight) - normalised(target, weight))[0], weight[0]
    total = 0.0
    for row in range(4):
        for column in range(8):
            for beside, below in (((column + 1) % 8, row), (column, row + 1)):
                if below < 4 and w[row, column] > 0 and w[below, beside] > 0:
                    total += float(w[row, column] * abs(error[below, beside] - error[row, column]))
    loss = gradient_matching_loss(prediction, target, weight, scales=1)
    assert loss.item() == pytest.approx(total / float(w.sum()), rel=1e-9)


def test_every_scale_counts() -> None:
    """The roughness of every second column, of every fourth, …, is added."""
    prediction, target, weight = _random()
    sums = [gradient_matching_loss(prediction, target, weight, scales=scales) for scales in (1, 2, 3)]
    assert (sums[0] < sums[1]).all()
    assert (sums[1] < sums[2]).all()
    error = normalised(prediction, weight) - normalised(target, weight)
    coarse, w = error[:, ::2, ::2], weight[:, ::2, ::2]
    rough = (w * (coarse.roll(-1, -1) - coarse).abs()).sum((1, 2)) + (
        w[:, :-1] * (coarse[:, 1:] - coarse[:, :-1]).abs()
    ).sum((1, 2))
    assert torch.allclose(sums[1] - sums[0], rough / w.sum((1, 2)))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_seam_is_a_place_like_any_other(loss) -> None:
    """Turns of 8 columns keep the grids of all four scales."""
    maps = _random()
    assert torch.allclose(loss(*(x.roll(8, -1) for x in maps)), loss(*maps), rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_values(loss) -> None:
    prediction, target, weight = _random(shape=(2, 4, 8))
    weight[0, 1, 2] = 0
    assert torch.autograd.gradcheck(lambda p: loss(p, target, weight), prediction.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -5.0])
@pytest.mark.parametrize("nothing_known", [False, True])
def test_pixels_without_weight_have_no_part(loss, odd: float, nothing_known: bool) -> None:
    prediction, target, weight = _random()
    weight[0] = 0
    weight[1, 2:5, 3:6] = 0
    if nothing_known:
        weight[:] = 0
    values, gradients = [], []
    for value in (7.0, odd):
        predicted = prediction.where(weight > 0, value).requires_grad_()
        values.append(loss(predicted, target.where(weight > 0, value), weight))
        values[-1].sum().backward()
        gradients.append(predicted.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert (gradients[0][weight == 0] == 0).all()
    assert values[0][0] == 0
    assert nothing_known == bool((values[0] == 0).all())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_truth_that_is_no_number_is_none(loss, odd: float) -> None:
    prediction, target, weight = _random()
    hole = torch.zeros_like(weight, dtype=torch.bool)
    hole[1, 2:5, 3:6] = True
    found = loss(prediction.requires_grad_(), target.where(~hole, odd), weight)
    assert torch.equal(found, loss(prediction, target, weight * ~hole))
    found.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_no_number_is_not_passed_over(loss, odd: float) -> None:
    prediction, target, weight = _random()
    prediction[1, 3, 4] = odd
    assert loss(prediction, target, weight).isfinite().tolist() == [True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_flat_predictions_keep_everything_finite(loss) -> None:
    _, target, weight = _random()
    flat = torch.full(SHAPE, 2.0, dtype=torch.float64, requires_grad=True)
    loss(flat, target, weight).sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def _features() -> tuple[Tensor, Tensor]:
    """Three places with cosines 1, 0.8 and −1, (1, 2, 1, 3)."""
    one = torch.tensor([[1.0, 0], [1, 0], [1, 0]]).T[None, :, None]
    other = torch.tensor([[2.0, 0], [0.8, 0.6], [-3, 0]]).T[None, :, None]
    return one, other


def test_feature_alignment_by_hand() -> None:
    features, frozen = _features()
    assert feature_alignment_loss(features, frozen, margin=1.0).item() == pytest.approx((0 + 0.2 + 2) / 3)
    assert feature_alignment_loss(features, frozen).item() == pytest.approx((0.2 + 2) / 2)
    assert feature_alignment_loss(features, frozen, margin=0.5).item() == pytest.approx(2)
    assert feature_alignment_loss(features, features) == 0
    weight = torch.tensor([[[5.0, 3.0, 1.0]]])
    assert feature_alignment_loss(features, frozen, weight=weight).item() == pytest.approx((3 * 0.2 + 2) / 4)


def test_feature_alignment_teaches_the_features_alone() -> None:
    features, frozen, _ = _random(shape=(2, 5, 3, 4))
    features, frozen = (features - 0.5).requires_grad_(), (frozen - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: feature_alignment_loss(f, frozen), features)
    feature_alignment_loss(features, frozen).backward()
    assert frozen.grad is None
    zeros = torch.zeros(1, 2, 1, 1, requires_grad=True)
    feature_alignment_loss(zeros, zeros).backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize("spoilt", ["features", "frozen"])
def test_places_of_no_weight_or_without_frozen_features_have_no_part(spoilt: str) -> None:
    maps: dict[str, Tensor] = dict(zip(("features", "frozen"), _features(), strict=True))
    maps[spoilt] = maps[spoilt].clone()
    maps[spoilt][..., 1] = math.nan
    features = maps["features"].requires_grad_()
    weight = torch.ones(1, 1, 3)
    if spoilt == "features":
        assert feature_alignment_loss(features, maps["frozen"], weight=weight).isnan()
        weight[..., 1] = 0
    loss = feature_alignment_loss(features, maps["frozen"], margin=1.0, weight=weight)
    assert loss.item() == pytest.approx((0 + 2) / 2)
    loss.backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert feature_alignment_loss(features, maps["frozen"], weight=torch.zeros(1, 3)) == 0
