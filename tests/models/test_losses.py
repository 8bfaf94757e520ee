import math

import pytest
import torch
from torch import Tensor

from models.losses import (
    LossWeights,
    Target,
    binary_cross_entropy,
    dap_loss,
    dice,
    distortion_map,
    hinge_loss,
    range_mask_loss,
    silog,
)

SHAPE = (3, 4, 8)


def _random(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction_m, target_m = (torch.rand(SHAPE, generator=generator, dtype=torch.float64) * 20 + 0.5 for _ in range(2))
    return prediction_m, target_m, torch.rand(SHAPE, generator=generator, dtype=torch.float64)


def test_silog_by_hand() -> None:
    """Errors of ln 2 and 0: mean of squares (ln 2)²/2, squared mean (ln 2)²/4."""
    prediction_m, target_m = torch.tensor([[[2.0, 3.0]]]), torch.tensor([[[1.0, 3.0]]])
    weight = torch.ones(1, 1, 2)
    for focus, factor in ((0.0, 0.5), (0.5, 0.375), (0.85, 0.2875)):
        loss = silog(prediction_m, target_m, weight, variance_focus=focus)
        assert loss.item() == pytest.approx(math.log(2) * math.sqrt(factor), abs=2e-3)


def test_silog_forgives_scale_as_far_as_it_is_told() -> None:
    _, target_m, weight = _random()
    scaled = silog(3 * target_m, target_m, weight, variance_focus=0.5)
    assert torch.allclose(scaled, torch.full_like(scaled, math.log(3) * math.sqrt(0.5)), atol=2e-3)
    assert (silog(3 * target_m, target_m, weight, variance_focus=0.999) < 0.04).all()
    assert (silog(target_m, target_m, weight) == 0).all()


def test_weights_weigh() -> None:
    """A weight of 2 is the pixel taken twice."""
    prediction_m, target_m, _ = _random()
    weight = torch.ones(SHAPE, dtype=torch.float64)
    weight[..., -1] = 2
    twice = [torch.cat([x, x[..., -1:]], dim=-1) for x in (prediction_m, target_m, torch.ones_like(weight))]
    assert torch.allclose(silog(prediction_m, target_m, weight), silog(*twice))


def test_dice_and_cross_entropy_by_hand() -> None:
    probability, truth = torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[1.0, 0.0]]])
    weight = torch.ones(1, 1, 2)
    assert dice(probability, truth, weight).item() == pytest.approx(1 - 2 * 0.5 / 1.75, rel=1e-5)
    entropy = -(math.log(0.5) + math.log(0.75)) / 2
    assert binary_cross_entropy(probability, truth, weight).item() == pytest.approx(entropy, rel=1e-5)
    squared = range_mask_loss(probability, truth > 0, weight, kind="squared").item()
    assert squared == pytest.approx((0.25 + 0.0625) / 2 + 0.5 * (1 - 1 / 1.75), rel=1e-5)


def test_distortion_map_has_a_mean_of_1_and_falls_towards_the_poles() -> None:
    weight = distortion_map(torch.zeros(16, 32, dtype=torch.float64))
    assert weight.mean().item() == pytest.approx(1)
    assert (weight[:7].diff(dim=0) > 0).all()


@pytest.mark.parametrize("kind", ["bce", "squared"])
def test_gradients_are_those_of_the_values(kind: str) -> None:
    prediction_m, target_m, weight = _random()
    assert torch.autograd.gradcheck(lambda p: silog(p, target_m, weight), prediction_m.requires_grad_())
    probability = (prediction_m.detach() / 25).requires_grad_()
    beyond_range = target_m > 10
    assert torch.autograd.gradcheck(lambda p: range_mask_loss(p, beyond_range, weight, kind=kind), probability)


NOTHING = torch.zeros(SHAPE, dtype=torch.bool)
ALL = ~NOTHING


@pytest.mark.parametrize(
    ("depth_m", "valid", "beyond_range"),
    [
        (5.0, NOTHING, NOTHING),
        (math.nan, NOTHING, NOTHING),
        (math.inf, NOTHING, ALL),
        (0.0, NOTHING, ALL),
        (5.0, ALL, NOTHING),
    ],
    ids=["all missing", "nan", "inf beyond range", "all beyond range", "none beyond range"],
)
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_empty_masks_and_odd_values_keep_everything_finite(depth_m, valid, beyond_range, probability: float) -> None:
    prediction_m = torch.full(SHAPE, 3.0, requires_grad=True)
    mask = torch.full(SHAPE, probability, requires_grad=True)
    terms = dap_loss(prediction_m, mask, Target(torch.full(SHAPE, depth_m), valid, beyond_range))
    terms["total"].backward()
    assert all(term.isfinite() for term in terms.values())
    for predicted in (prediction_m, mask):
        assert predicted.grad is not None
        assert predicted.grad.isfinite().all()


def test_a_perfect_prediction_costs_next_to_nothing() -> None:
    _, depth_m, _ = _random()
    beyond_range = depth_m > 15
    terms = dap_loss(depth_m, beyond_range.double(), Target(depth_m, ~beyond_range, beyond_range))
    assert terms["total"] < 1e-5


def _terms(weights: LossWeights | None = None, image_weight: Tensor | None = None, turn: int = 0) -> dict[str, Tensor]:
    prediction_m, depth_m, probability = (x.roll(turn, -1) for x in _random())
    beyond_range = depth_m > 12
    target = Target(depth_m, ~beyond_range, beyond_range)
    return dap_loss(prediction_m, probability, target, weights=weights, image_weight=image_weight)


def test_the_total_is_the_weighted_sum_of_the_named_terms() -> None:
    terms = _terms(LossWeights(silog=2.0, range_mask=0.25))
    assert torch.allclose(terms["total"], 2 * terms["silog"] + 0.25 * terms["range_mask"])
    assert torch.equal(_terms()["silog"], terms["silog"])


def test_the_loss_does_not_know_where_the_seam_is() -> None:
    turned = _terms(turn=3)
    for name, term in _terms().items():
        assert torch.allclose(term, turned[name], rtol=1e-12)


def test_an_image_of_weight_0_has_no_part() -> None:
    prediction_m, depth_m, probability = _random()
    target = Target(depth_m, ~NOTHING, NOTHING)
    first_two = Target(*(part[:2] for part in target))
    weighted = dap_loss(prediction_m, probability, target, image_weight=torch.tensor([1.0, 1.0, 0.0]).double())
    alone = dap_loss(prediction_m[:2], probability[:2], first_two)
    for name, term in weighted.items():
        assert torch.allclose(term, alone[name])


def test_hinge_is_0_beyond_the_margin_alone() -> None:
    assert hinge_loss(torch.tensor([1.5, 2.0]), torch.tensor([-1.0, -3.0])) == 0
    assert hinge_loss(torch.tensor([0.5]), torch.tensor([0.25])).item() == pytest.approx(0.5 + 1.25)
