import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.patches import ICOSAHEDRON, perspective_views
from dap_engine.models.losses.losses import (
    binary_cross_entropy,
    dense_fidelity_loss,
    dice,
    edges,
    gradient_loss,
    hinge_loss,
    normals_loss,
    points_loss,
    range_mask_loss,
    silog,
)
from tests.models.geometry.test_normals import world_normals

SHAPE = (3, 4, 8)
PIXELWISE = [silog, gradient_loss, normals_loss, points_loss, dense_fidelity_loss]
"""Losses of every image, of a prediction, the truth and a weight."""


def _random(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction_m, target_m = (torch.rand(shape, generator=generator, dtype=torch.float64) * 20 + 0.5 for _ in range(2))
    return prediction_m, target_m, torch.rand(shape, generator=generator, dtype=torch.float64)


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


def _room(height: int = 32) -> Tensor:
    """Ray distances in a cube with a half size of 2 m, with a pillar 1 m away right across the seam, (1, H, 2H)."""
    rays = erp.rays(height, 2 * height, dtype=torch.float64)
    depth_m = 2 / rays.abs().amax(dim=-1)
    pillar = (rays[..., 0] < -0.95) & (rays[..., 2].abs() < 0.3)
    return torch.where(pillar, 1.0, depth_m)[None]


def test_edges_are_where_distances_jump() -> None:
    depth_m = torch.full((1, 16, 32), 2.0)
    depth_m[:, 4:12, 8:16] = 4.0
    found = edges(depth_m, depth_m > 0)[0]
    assert found[4:12, [7, 8, 15, 16]].all()
    assert found[[3, 4, 11, 12], 8:16].all()
    assert not found[6:10, 10:14].any()
    assert not found[:3].any()


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.4])
def test_the_least_step_that_is_an_edge(threshold: float) -> None:
    """By the factor e^(2·threshold), whatever the distance."""
    for step, counts in ((1.99 * threshold, False), (2.01 * threshold, True)):
        depth_m = torch.full((1, 16, 32), 7.0)
        depth_m[..., 8:24] *= math.exp(step)
        assert edges(depth_m, depth_m > 0, threshold=threshold)[0, 8, 8] == counts


def test_edges_are_found_at_the_seam_and_over_the_poles() -> None:
    at_seam = torch.full((1, 16, 32), 2.0)
    at_seam[..., :16] = 4.0  # steps at columns 15 | 16 and, around the seam, 31 | 0
    found = edges(at_seam, at_seam > 0)[0]
    assert found[8].nonzero().flatten().tolist() == [0, 15, 16, 31]
    assert found[0].all()  # over the pole, every column of the first row meets the other half


def test_next_to_the_unknown_nothing_is_an_edge() -> None:
    depth_m = _room()
    known = torch.ones_like(depth_m, dtype=torch.bool)
    assert edges(depth_m, known)[0, 16, [0, -1]].logical_not().all()  # inside the pillar
    known[0, 16, 0] = False
    unknown_around = F.max_pool2d(F.pad((~known).double(), (1, 1, 0, 0), mode="circular"), 3, 1, (1, 0)) > 0
    assert not (edges(depth_m.where(known, math.nan), known) & unknown_around).any()


def test_gradient_loss_is_silog_on_the_edges_of_both() -> None:
    """Truth has one edge, the prediction another: both regions count, and nothing else does."""
    target_m, prediction_m = torch.full((1, 16, 32), 2.0), torch.full((1, 16, 32), 2.0)
    target_m[:, 4:8, 8:16] = 4.0
    prediction_m[:, 10:12, 20:24] = 3.0
    weight = torch.ones(1, 16, 32)
    either = edges(target_m, weight > 0) | edges(prediction_m, weight > 0)
    loss = gradient_loss(prediction_m, target_m, weight)
    assert loss > 0
    assert torch.equal(loss, silog(prediction_m, target_m, weight * either))
    prediction_m[:, 5:7, 10:14] = 2.1  # changes away from any edge cost nothing
    assert torch.equal(gradient_loss(prediction_m, target_m, weight), loss)


def test_a_perfect_edge_or_none_at_all_costs_nothing() -> None:
    room_m = _room()
    weight = torch.ones_like(room_m)
    assert gradient_loss(room_m, room_m, weight) == 0
    flat_m = torch.full_like(room_m, 3.0)
    assert gradient_loss(flat_m, 2 * flat_m, weight) == 0
    assert gradient_loss(flat_m, room_m, weight) > 0.1


def test_normals_loss_by_definition() -> None:
    prediction_m, target_m, weight = _random(shape=(2, 8, 16))
    difference = (world_normals(prediction_m) - world_normals(target_m)).abs().sum(dim=-1)
    expected = (difference * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
    assert torch.allclose(normals_loss(prediction_m, target_m, weight), expected)


def test_normals_do_not_see_scale_but_tilt() -> None:
    room_m = _room()
    weight = torch.ones_like(room_m)
    assert normals_loss(3 * room_m, room_m, weight) < 1e-9
    columns = torch.linspace(1, 1.5, 64, dtype=torch.float64)
    assert normals_loss(room_m * columns, room_m, weight) > 0.05


def test_normals_beside_the_unknown_do_not_count() -> None:
    """A prediction of twice the truth has its normals, but not where a neighbour is made up."""
    _, target_m, weight = _random(shape=(1, 8, 16))
    weight[0, 3, 0] = weight[0, 0, 5] = 0  # at the seam, and at a pole
    assert normals_loss(2 * target_m, target_m, weight) < 1e-12
    weight[0] = torch.arange(16) % 2  # no pixel has a known neighbour left
    assert normals_loss(torch.rand_like(target_m), target_m, weight) == 0


def test_points_loss_by_definition() -> None:
    prediction_m, target_m, weight = _random()
    distance = (erp.point_map(prediction_m) - erp.point_map(target_m)).abs().sum(dim=-1)
    expected = (distance * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
    assert torch.allclose(points_loss(prediction_m, target_m, weight), expected)


def test_dense_fidelity_by_definition() -> None:
    """Written out: 12 patches, the Gram matrices of their rows, squared Frobenius norm, mean."""
    prediction_m, target_m, _ = _random(shape=(2, 16, 32))
    loss = dense_fidelity_loss(prediction_m, target_m, torch.ones_like(target_m), size=5, fov_deg=70)
    for image in range(2):
        total = 0.0
        for view in ICOSAHEDRON:
            one, other = (
                perspective_views(depth_m[image][None, None], [view], (5, 5), fov_deg=70)[0, 0, 0]
                for depth_m in (prediction_m, target_m)
            )
            unit = 5 * max(patch.square().mean().sqrt() for patch in (one, other))
            gram = [[(one[i] @ one[j] - other[i] @ other[j]) / unit**2 for j in range(5)] for i in range(5)]
            total += sum(entry**2 for row in gram for entry in row)
        assert loss[image].item() == pytest.approx(float(total) / 12, rel=1e-9)


@pytest.mark.parametrize("size", [4, 16, None])
@pytest.mark.parametrize("scene_m", [0.5, 40.0])
def test_dense_fidelity_of_a_wrong_scale(size: int | None, scene_m: float) -> None:
    """On a sphere, a prediction s times too near costs (1 − s²)², whatever the scene's size and the patch's."""
    target_m = torch.full((1, 32, 64), scene_m)
    weight = torch.ones_like(target_m)
    assert dense_fidelity_loss(0.5 * target_m, target_m, weight, size=size).item() == pytest.approx(0.5625, rel=1e-4)
    assert dense_fidelity_loss(2 * target_m, target_m, weight, size=size).item() == pytest.approx(0.5625, rel=1e-4)
    assert dense_fidelity_loss(target_m, target_m, weight, size=size) == 0


def test_dense_fidelity_sees_blurred_edges() -> None:
    room_m = _room()
    weight = torch.ones_like(room_m)
    blurred_m = F.avg_pool2d(erp.pad_sphere(room_m, 2)[:, None], 5, 1)[:, 0]
    assert dense_fidelity_loss(blurred_m, room_m, weight) > 1e-4


def test_dense_fidelity_leaves_out_what_is_unknown() -> None:
    prediction_m, target_m, _ = _random(shape=(1, 16, 32))
    weight = torch.ones_like(target_m)
    weight[:, 4:9, 3:20] = 0
    loss = dense_fidelity_loss(prediction_m, target_m, weight)
    other = dense_fidelity_loss(prediction_m.where(weight > 0, 90.0), target_m.where(weight > 0, math.nan), weight)
    assert torch.equal(loss, other)
    assert loss != dense_fidelity_loss(prediction_m, target_m, torch.ones_like(weight))


def test_dense_fidelity_is_not_rounded_by_autocast() -> None:
    prediction_m, target_m, weight = (x.float() for x in _random(shape=(1, 16, 32)))
    loss = dense_fidelity_loss(prediction_m, target_m, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dense_fidelity_loss(prediction_m, target_m, weight), loss)


@pytest.mark.parametrize(
    ("loss", "columns"),
    [(silog, 5), (gradient_loss, 5), (normals_loss, 8), (points_loss, 8), (dense_fidelity_loss, 16)],
)
def test_the_seam_is_a_place_like_any_other(loss, columns: int) -> None:
    """Turns change nothing: any whole column, a right angle for what has axes, half a turn for the icosahedron."""
    maps = _random(shape=(2, 16, 32))
    assert torch.allclose(loss(*(x.roll(columns, -1) for x in maps)), loss(*maps), rtol=1e-9)


@pytest.mark.parametrize("loss", PIXELWISE)
def test_gradients_are_those_of_the_values(loss) -> None:
    """Predicted nearer than the truth, so that the unit of dense fidelity is the truth's."""
    prediction_m, target_m, weight = _random()
    target_m = target_m + 25
    weight[0, 1, 2] = 0
    prediction_m = prediction_m.requires_grad_()
    assert loss(prediction_m, target_m, weight).gt(0).all()
    assert torch.autograd.gradcheck(lambda p: loss(p, target_m, weight), prediction_m)


@pytest.mark.parametrize("loss", PIXELWISE)
@pytest.mark.parametrize("nothing_known", [False, True])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -3.0])
def test_pixels_without_weight_have_no_part(loss, odd: float, nothing_known: bool) -> None:
    prediction_m, target_m, weight = _random(shape=(2, 8, 16))
    weight[0] = 0
    weight[1, 2:5, 3:6] = 0
    if nothing_known:
        weight[:] = 0
    values, gradients = [], []
    for value in (7.0, odd):
        predicted = prediction_m.where(weight > 0, value).requires_grad_()
        values.append(loss(predicted, target_m.where(weight > 0, value), weight))
        values[-1].sum().backward()
        gradients.append(predicted.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert values[0][0] == 0
    assert (gradients[0][weight == 0] == 0).all()
    assert nothing_known == bool((values[0] == 0).all())


@pytest.mark.parametrize("loss", PIXELWISE)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -3.0])
def test_truth_that_is_no_distance_is_none(loss, odd: float) -> None:
    """Whatever its weight: as if that were 0."""
    prediction_m, target_m, weight = _random(shape=(2, 8, 16))
    hole = torch.zeros_like(weight, dtype=torch.bool)
    hole[0, 2:5, 3:6] = True
    predicted = prediction_m.requires_grad_()
    loss(predicted, target_m.where(~hole, odd), weight + 0.1).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[hole] == 0).all()
    without = loss(prediction_m, target_m, (weight + 0.1) * ~hole)
    assert torch.equal(loss(prediction_m, target_m.where(~hole, odd), weight + 0.1), without)


@pytest.mark.parametrize("loss", PIXELWISE)
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_is_not_passed_over(loss, odd: float) -> None:
    """In the middle of a plain wall, too, where nothing else is an edge."""
    wall_m = torch.full((2, 8, 16), 3.0)
    prediction_m = wall_m.clone()
    prediction_m[0, 4, 7] = odd
    found = loss(prediction_m, wall_m, torch.ones_like(wall_m))
    assert found.isfinite().tolist() == [False, True]


@pytest.mark.parametrize("loss", PIXELWISE)
@pytest.mark.parametrize("predicted", [0.0, -3.0])
def test_predictions_that_are_not_positive_keep_everything_finite(loss, predicted: float) -> None:
    _, target_m, weight = _random(shape=(2, 8, 16))
    prediction_m = torch.full_like(target_m, predicted, requires_grad=True)
    value = loss(prediction_m, target_m, weight)
    value.sum().backward()
    assert value.isfinite().all()
    assert prediction_m.grad is not None
    assert prediction_m.grad.isfinite().all()


@pytest.mark.parametrize("loss", PIXELWISE)
def test_half_precision_is_computed_in_full(loss) -> None:
    prediction_m, target_m, weight = _random(shape=(1, 16, 32))
    halves = prediction_m.bfloat16(), target_m.bfloat16()
    value = loss(*halves, weight.float())
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*(half.float() for half in halves), weight.float()))


def test_dice_and_cross_entropy_by_hand() -> None:
    probability, truth = torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[1.0, 0.0]]])
    weight = torch.ones(1, 1, 2)
    assert dice(probability, truth, weight).item() == pytest.approx(1 - 2 * 0.5 / 1.75, rel=1e-5)
    entropy = -(math.log(0.5) + math.log(0.75)) / 2
    assert binary_cross_entropy(probability, truth, weight).item() == pytest.approx(entropy, rel=1e-5)
    crossed = range_mask_loss(probability, truth > 0, weight).item()
    assert crossed == pytest.approx(entropy + 0.5 * (1 - 1 / 1.75), rel=1e-5)
    squared = range_mask_loss(probability, truth > 0, weight, kind="squared").item()
    assert squared == pytest.approx((0.25 + 0.0625) / 2 + 0.5 * (1 - 1 / 1.75), rel=1e-5)
    with pytest.raises(ValueError, match="must be bce or squared, not 'focal'"):
        range_mask_loss(probability, truth > 0, weight, kind="focal")


@pytest.mark.parametrize("kind", ["bce", "squared"])
def test_gradients_of_the_range_mask(kind: str) -> None:
    probability, target_m, weight = _random()
    probability = (probability / 25).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: range_mask_loss(p, target_m > 10, weight, kind=kind), probability)


PROBABILISTIC = [
    dice,
    binary_cross_entropy,
    range_mask_loss,
    lambda p, t, w: range_mask_loss(p, t, w, kind="squared"),
]


@pytest.mark.parametrize("loss", PROBABILISTIC)
@pytest.mark.parametrize("odd", [math.nan, math.inf, 2.0])
def test_what_is_not_known_to_be_in_range_has_no_part(loss, odd: float) -> None:
    """For a weight of 0, or a truth of nan."""
    probability, target_m, weight = _random()
    probability, weight, truth = probability / 25, (weight > 0.5).to(weight), (target_m > 10).double()
    expected = loss(probability, truth, weight)
    predicted = torch.where(weight > 0, probability, odd).requires_grad_()
    found = loss(predicted, truth.where(weight > 0, odd), weight)
    assert found == expected > 0
    assert loss(predicted, truth.where(weight > 0, torch.nan), torch.ones_like(weight)) == expected
    found.backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[weight == 0] == 0).all()
    assert loss(predicted, truth, torch.zeros_like(weight)) == 0
    assert loss(probability.where(weight == 0, torch.nan), truth, weight).isnan()


def test_hinge_is_0_beyond_the_margin_alone() -> None:
    assert hinge_loss(torch.tensor([1.5, 2.0]), torch.tensor([-1.0, -3.0]), torch.ones(2)) == 0
    logits = torch.tensor([[0.5], [-9.0]]), torch.tensor([[0.25], [9.0]])
    assert hinge_loss(*logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.5 + 1.25)
