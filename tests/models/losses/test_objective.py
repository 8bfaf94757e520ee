import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import Tensor

from dap_engine.models.losses import losses
from dap_engine.models.losses import relative as relative_losses
from dap_engine.models.losses.objective import NEAREST_M, Target, dap_loss, distortion_map, on_either_side
from dap_engine.models.losses.weights import PUBLISHED, LossWeights

SHAPE = (3, 8, 16)
NAMES = [field.name for field in fields(LossWeights)]
ALL = LossWeights(**{name: 0.5 + number for number, name in enumerate(NAMES)})
NOTHING_AT_ALL = dict.fromkeys(NAMES, 0.0)


def _random() -> tuple[Tensor, Tensor, Target]:
    generator = torch.Generator().manual_seed(0)
    depth_m, true_m, probability = (torch.rand(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    true_m = 20 * true_m + 0.5
    beyond_range = true_m > 12
    valid = ~beyond_range & (torch.rand(SHAPE, generator=generator) < 0.9)
    return 20 * depth_m + 0.5, probability, Target(true_m, valid, beyond_range)


def _terms(weights: LossWeights = ALL, turn: int = 0, **options) -> dict[str, Tensor]:
    depth_m, probability, target = _random()
    turned = Target(*(part.roll(turn, -1) for part in target))
    return dap_loss(depth_m.roll(turn, -1), probability.roll(turn, -1), turned, weights=weights, **options)


def test_distortion_map_has_a_mean_of_1_and_falls_towards_the_poles() -> None:
    weight = distortion_map(torch.zeros(16, 32, dtype=torch.float64))
    assert weight.mean().item() == pytest.approx(1)
    assert (weight[:7].diff(dim=0) > 0).all()
    assert torch.equal(distortion_map(torch.zeros(16, 32).bfloat16()), distortion_map(torch.zeros(16, 32)))


def _cut() -> Tensor:
    """Across the seam in the first image, half of the second, nothing in the third."""
    cut = torch.zeros(SHAPE, dtype=torch.bool)
    cut[0, 2:5, :3] = cut[0, 2:5, 14:] = cut[1, :, 8:] = True
    return cut


def test_losses_are_taken_on_either_side_of_a_cut() -> None:
    """By hand: each side as an image of its own, by its part of the truth; an image without a cut as ever."""
    depth_m, _, (true_m, valid, _) = _random()
    weight, cut = distortion_map(depth_m) * valid, _cut()
    found = on_either_side(losses.silog, depth_m, true_m, weight, cut)
    inside, outside = (losses.silog(depth_m, true_m, weight * side) for side in (cut, ~cut))
    part = (weight * cut).sum((1, 2)) / weight.sum((1, 2))
    torch.testing.assert_close(found, part * inside + (1 - part) * outside)
    assert torch.equal(found[2], losses.silog(depth_m, true_m, weight)[2])


def test_the_scale_of_either_side_of_a_cut_costs_nothing() -> None:
    """Each is normalised by itself: the very point of taking them apart (up to gradients across the cut)."""
    _, probability, target = _random()
    target = target._replace(valid=torch.ones_like(target.valid), beyond_range=torch.zeros_like(target.valid))
    cut, only = _cut(), LossWeights(**{**NOTHING_AT_ALL, "affine_invariant": 1})
    disparity = 1 / target.depth_m
    depth_m = 1 / torch.where(cut, 2 * disparity + 0.1, 0.5 * disparity + 0.3)
    apart = dap_loss(depth_m, probability, target, weights=only, cut=cut)["total"]
    assert apart < 1e-9 < 0.05 < dap_loss(depth_m, probability, target, weights=only)["total"]
    seam = [dap_loss(*(part.roll(5, -1) for part in (depth_m, probability)), Target(*(p.roll(5, -1) for p in target)),
                     weights=only, cut=cut.roll(5, -1))["total"]]  # fmt: skip
    torch.testing.assert_close(seam[0], apart)


def test_sources_may_have_losses_of_their_own() -> None:
    """By hand, of the depth terms: images by their own factors, over all images."""
    depth_m, probability, target = _random()
    other = LossWeights(**{**NOTHING_AT_ALL, "points": 3.0, "range_mask": 2.0})
    first = replace(other, points=0.0, silog=2.0)
    sources = ["a", "b", "a"]
    terms = dap_loss(depth_m, probability, target, weights=first, by_source={"b": other}, sources=sources)
    weight = distortion_map(depth_m) * target.valid
    silog, points = losses.silog(depth_m, target.depth_m, weight), losses.points_loss(depth_m, target.depth_m, weight)
    assert terms["silog"].item() == pytest.approx((silog[0] + silog[2]).item() / 2)
    assert terms["points"].item() == pytest.approx(points[1].item() / 100)
    mask = 2 * dap_loss(depth_m, probability, target, weights=first)["range_mask"].item()
    depth = (2 * silog[0] + 2 * silog[2] + 3 * points[1] / 100).item() / 3
    assert terms["total"].item() == pytest.approx(depth + mask)
    same = dap_loss(depth_m, probability, target, weights=ALL, by_source={"b": ALL}, sources=sources)
    for name, term in _terms().items():
        torch.testing.assert_close(same[name], term)


def test_the_published_factors() -> None:
    """Table of the paper: λ₁ … λ₆ = 1.0, 0.4, 5.0, 2.0, 2.0, 2.0, and nothing else."""
    assert [*asdict(PUBLISHED).values()] == [1.0, 0.4, 5.0, 2.0, 2.0, 2.0, 0.0, 0.0]
    assert NAMES[:6] == ["silog", "dense_fidelity", "gradient", "normals", "points", "range_mask"]


def test_each_term_is_its_loss_under_the_distortion_map() -> None:
    depth_m, probability, (true_m, valid, beyond_range) = _random()
    area = distortion_map(depth_m).expand(SHAPE)
    seen = depth_m, true_m, area * valid
    known = area * (valid | beyond_range)
    disparities = 1 / depth_m, torch.where(valid, 1 / true_m, 0.0), known
    expected = {
        "silog": losses.silog(*seen).mean(),
        "dense_fidelity": losses.dense_fidelity_loss(*seen).mean(),
        "gradient": losses.gradient_loss(*seen).mean(),
        "normals": losses.normals_loss(*seen).mean(),
        "points": losses.points_loss(*seen).mean() / 100,
        "range_mask": losses.range_mask_loss(probability, beyond_range, known),
        "affine_invariant": relative_losses.affine_invariant_loss(*disparities).mean(),
        "gradient_matching": relative_losses.gradient_matching_loss(*disparities).mean(),
    }
    assert depth_m.min() > NEAREST_M
    terms = _terms()
    assert terms.keys() == {*NAMES, "total"}
    for name, term in expected.items():
        assert term > 0
        assert torch.allclose(terms[name], term), name


def test_the_total_is_the_weighted_sum_of_the_named_terms() -> None:
    terms = _terms()
    total = torch.stack([asdict(ALL)[name] * terms[name] for name in NAMES]).sum()
    assert torch.allclose(terms["total"], total)


@pytest.mark.parametrize("name", NAMES)
def test_a_term_without_a_factor_is_left_out(name: str) -> None:
    without = _terms(replace(ALL, **{name: 0.0}))
    assert without.keys() == {*NAMES, "total"} - {name}
    everything = _terms()
    assert torch.allclose(everything["total"] - without["total"], asdict(ALL)[name] * everything[name])
    alone = _terms(LossWeights(**{**NOTHING_AT_ALL, name: 3.0}))
    assert torch.allclose(alone["total"], 3 * everything[name])


def test_by_default_the_total_is_the_published_one() -> None:
    depth_m, probability, target = _random()
    terms, published = dap_loss(depth_m, probability, target), _terms(PUBLISHED)
    assert terms.keys() == {*NAMES[:6], "total"}
    assert torch.equal(terms["total"], published["total"])


def test_distances_and_range_alone_are_the_least_to_learn() -> None:
    terms = _terms(LossWeights())
    assert terms.keys() == {"silog", "range_mask", "total"}
    assert torch.equal(terms["total"], terms["silog"] + terms["range_mask"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "range_mask"])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_distance_that_is_no_number_is_noticed_by_every_term(name: str, odd: float) -> None:
    """But for disparities, of which a distance of inf is 0."""
    depth_m, probability, target = _random()
    depth_m[0, 4, 9] = odd
    target.valid[0, 3:6, 8:11] = True
    target.beyond_range[0, 3:6, 8:11] = False
    found = dap_loss(depth_m, probability, target, weights=LossWeights(**{**NOTHING_AT_ALL, name: 1.0}))
    disparity = name in ("affine_invariant", "gradient_matching")
    assert found["total"].isfinite() == (disparity and odd == math.inf)
    nowhere = target._replace(valid=target.valid & depth_m.isfinite())
    assert dap_loss(depth_m, probability, nowhere, weights=ALL)["total"].isfinite()


def test_a_chance_that_is_no_number_is_noticed() -> None:
    depth_m, probability, target = _random()
    probability[0, 4, 9] = math.nan
    known = target.valid | target.beyond_range
    known[0, 4, 9] = True
    assert dap_loss(depth_m, probability, target._replace(beyond_range=known))["total"].isnan()


def test_factors_are_checked() -> None:
    with pytest.raises(ValueError, match="factor of a loss must be at least 0, not -1 for normals"):
        LossWeights(normals=-1)
    with pytest.raises(ValueError, match="at least 0, not nan for points"):
        LossWeights(points=math.nan)
    with pytest.raises(ValueError, match="nothing to train for"):
        LossWeights(**NOTHING_AT_ALL)


def test_options_reach_their_terms() -> None:
    terms = _terms()
    assert torch.allclose(_terms(range_m=50.0)["points"], 2 * terms["points"])
    _, probability, target = _random()
    known = distortion_map(probability) * (target.valid | target.beyond_range)
    squared = losses.range_mask_loss(probability, target.beyond_range, known, kind="squared")
    assert torch.allclose(_terms(range_mask_kind="squared")["range_mask"], squared)


def test_the_loss_does_not_know_where_the_seam_is() -> None:
    """Half a turn is a symmetry of every term: of the axes of the world, of the icosahedron, of every other column."""
    turned = _terms(turn=8)
    for name, term in _terms().items():
        assert torch.allclose(term, turned[name], rtol=1e-9), name


def test_an_image_of_weight_0_has_no_part() -> None:
    depth_m, probability, target = _random()
    first_two = Target(*(part[:2] for part in target))
    weighted = _terms(image_weight=torch.tensor([1.0, 1.0, 0.0]).double())
    alone = dap_loss(depth_m[:2], probability[:2], first_two, weights=ALL)
    for name, term in weighted.items():
        assert torch.allclose(term, alone[name])


def test_images_count_by_their_weight() -> None:
    """Twice the weight is the image taken twice."""
    depth_m, probability, target = _random()
    twice = [torch.cat([x, x[:1]]) for x in (depth_m, probability, *target)]
    weighted = _terms(image_weight=torch.tensor([2.0, 1.0, 1.0]).double())
    for name, term in dap_loss(twice[0], twice[1], Target(*twice[2:]), weights=ALL).items():
        assert torch.allclose(term, weighted[name]), name


NOTHING = torch.zeros(SHAPE, dtype=torch.bool)
EVERYTHING = ~NOTHING


@pytest.mark.parametrize(
    ("depth_m", "valid", "beyond_range"),
    [
        (5.0, NOTHING, NOTHING),
        (math.nan, NOTHING, NOTHING),
        (math.nan, EVERYTHING, NOTHING),
        (math.inf, NOTHING, EVERYTHING),
        (math.inf, EVERYTHING, NOTHING),
        (0.0, NOTHING, EVERYTHING),
        (0.0, EVERYTHING, NOTHING),
        (-1.0, EVERYTHING, NOTHING),
        (5.0, EVERYTHING, NOTHING),
    ],
    ids=[
        "all missing",
        "nan",
        "nan said to be valid",
        "inf beyond range",
        "inf said to be valid",
        "all beyond range",
        "0 said to be valid",
        "negative",
        "none beyond range",
    ],
)
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("predicted_m", [0.0, 3.0, 100.0])
def test_empty_masks_and_odd_values_keep_everything_finite(
    depth_m, valid, beyond_range, probability: float, predicted_m: float
) -> None:
    prediction_m = torch.full(SHAPE, predicted_m, requires_grad=True)
    mask = torch.full(SHAPE, probability, requires_grad=True)
    target = Target(torch.full(SHAPE, depth_m), valid, beyond_range)
    terms = dap_loss(prediction_m, mask, target, weights=ALL)
    terms["total"].backward()
    assert all(term.isfinite() for term in terms.values())
    for predicted in (prediction_m, mask):
        assert predicted.grad is not None
        assert predicted.grad.isfinite().all()


def test_a_hole_of_nan_in_the_truth_changes_nothing_elsewhere() -> None:
    depth_m, probability, target = _random()
    holes = target._replace(valid=target.valid & (torch.arange(16) > 3))
    nans = target._replace(depth_m=torch.where(torch.arange(16) > 3, target.depth_m, math.nan))
    said, found = (dap_loss(depth_m, probability, truth, weights=ALL) for truth in (holes, nans))
    for name, term in said.items():
        assert torch.equal(term, found[name]), name


def test_a_perfect_prediction_costs_next_to_nothing() -> None:
    depth_m, _, target = _random()
    target = target._replace(depth_m=depth_m, valid=depth_m <= 15, beyond_range=depth_m > 15)
    weights = replace(ALL, affine_invariant=0.0, gradient_matching=0.0)  # beyond the range disparity should be 0
    assert dap_loss(depth_m, target.beyond_range.double(), target, weights=weights)["total"] < 1e-5
    near = target._replace(valid=EVERYTHING, beyond_range=NOTHING)
    assert dap_loss(depth_m, torch.zeros(SHAPE).double(), near, weights=ALL)["total"] < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_are_computed_in_full(dtype: torch.dtype) -> None:
    depth_m, probability, target = _random()
    depth_m, probability = depth_m.to(dtype), probability.to(dtype)
    target = target._replace(depth_m=target.depth_m.float())
    terms = dap_loss(depth_m, probability, target, weights=ALL)
    full = dap_loss(depth_m.float(), probability.float(), target, weights=ALL)
    for name, term in terms.items():
        assert torch.equal(term, full[name]), name
