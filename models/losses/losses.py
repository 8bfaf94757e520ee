"""Losses of panoramic metric depth (DAP, arXiv 2512.16913), as plain functions on tensors.

Every pixel-wise loss takes a weight (B, H, W) ≥ 0. Pixels of weight 0 and those whose truth is none (nan, inf, not
positive) have no part in the value or the gradient, whatever is predicted there; where no pixel is left the loss is 0.
A prediction of nan or inf where it counts is never passed over: the loss is not finite then, and training stops. One
that is not positive counts as EPSILON. wmean(x) = Σ w·x / Σ w. Maps narrower than float32 are computed in float32.
`objective.py` adds the losses up.

Losses of a whole batch take `pool`, which turns a sum over this rank's images into that over all ranks': so they are
normalised by the global batch, and do not depend on how it was shared.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry.equirectangular import pad_sphere, rays, remembered, working_dtype
from ..geometry.normals import local_normals, to_world_axes
from ..geometry.patches import ICOSAHEDRON, perspective_views

EPSILON = 1e-6

Pool = Callable[[Tensor], Tensor]
"""Adds up a sum over the images of each rank."""


def alone(local_sum: Tensor) -> Tensor:
    """The `Pool` of a single rank."""
    return local_sum


def weighted_mean(values: Tensor, weight: Tensor, dims: tuple[int, ...] = (-2, -1), pool: Pool = alone) -> Tensor:
    """Σ w·x / Σ w over `dims`, 0 where the weights are all 0."""
    return pool((weight * values).sum(dims)) / pool(weight.sum(dims)).clamp_min(EPSILON)


def counted(weight: Tensor, target_m: Tensor) -> Tensor:
    """The weight, but 0 where the truth is no distance."""
    return weight.where((target_m > 0) & (target_m < torch.inf), 0)


def filled(depth_m: Tensor, known: Tensor, value: float = 1.0) -> Tensor:
    """Distances, and `value` where they are not known; at least EPSILON, and at least float32."""
    return torch.where(known, depth_m.to(working_dtype(depth_m.dtype)), value).clamp_min(EPSILON)


def silog(prediction_m: Tensor, target_m: Tensor, weight: Tensor, *, variance_focus: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic loss (arXiv 1406.2283) of every image, (B,).

    g = ln d̂ − ln d;  L = √( wmean(g²) − λ · wmean(g)² ), λ = `variance_focus` in [0, 1): the larger, the less a wrong
    scale of the whole image costs.
    """
    weight = counted(weight, target_m)
    known = weight > 0
    error = filled(prediction_m, known).log() - filled(target_m, known).log()
    squared = weighted_mean(error.square(), weight) - variance_focus * weighted_mean(error, weight).square()
    return (squared + EPSILON).sqrt() - EPSILON**0.5  # the root has a finite slope at 0, where the value stays 0


def gradient_loss(
    prediction_m: Tensor, target_m: Tensor, weight: Tensor, *, variance_focus: float = 0.5, threshold: float = 0.1
) -> Tensor:
    """SILog where there are edges (arXiv 2512.16913), of every image, (B,):  L = SILog(M ⊙ d̂, M ⊙ d).

    M: pixels where the prediction or the truth has an edge (`edges`), or the prediction is no number. So it costs to
    miss an edge, and to invent one.
    """
    weight = counted(weight, target_m)
    known = weight > 0
    either = edges(prediction_m, known, threshold=threshold) | edges(target_m, known, threshold=threshold)
    either |= ~(prediction_m.abs() < torch.inf)
    return silog(prediction_m, target_m, weight * either, variance_focus=variance_focus)


@torch.no_grad()
def edges(depth_m: Tensor, known: Tensor, *, threshold: float = 0.1) -> Tensor:
    """Where the Sobel gradient of ln d exceeds `threshold` a pixel: (B, H, W) bool.

    A step by the factor e^(2·threshold) is the least that counts. Neighbours are taken around the seam and over the
    poles; a pixel with an unknown neighbour is no edge.
    """
    padded = pad_sphere(filled(depth_m, known).log(), 1)
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    across, down = rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]
    steep = across.square() + down.square() > (8 * threshold) ** 2
    unknown = pad_sphere(~known, 1)
    unknown = unknown[..., :-2, :] | unknown[..., 1:-1, :] | unknown[..., 2:, :]
    return steep & ~(unknown[..., :-2] | unknown[..., 1:-1] | unknown[..., 2:])


def normals_loss(prediction_m: Tensor, target_m: Tensor, weight: Tensor) -> Tensor:
    """Distance of the surface normals (arXiv 2512.16913) of every image, (B,):  L = wmean( ‖n̂ − n‖₁ ).

    Normals are those of `models.geometry.normals`, in world axes. Only pixels whose four neighbours have a weight, too,
    count.
    """
    weight = counted(weight, target_m)
    known = weight > 0
    predicted = local_normals(filled(prediction_m, known))
    with torch.no_grad():
        true = local_normals(filled(target_m, known))
    differences = to_world_axes((predicted[0] - true[0], predicted[1] - true[1], predicted[2] - true[2]))
    x, y, z = (difference.abs() for difference in differences)
    return weighted_mean(x + y + z, weight * _surrounded(known))


def _surrounded(known: Tensor) -> Tensor:
    """Pixels that are known, as their four neighbours on the sphere are."""
    padded = pad_sphere(known, 1)
    beside = padded[..., 1:-1, 2:] & padded[..., 1:-1, :-2]
    return known & beside & padded[..., 2:, 1:-1] & padded[..., :-2, 1:-1]


def points_loss(prediction_m: Tensor, target_m: Tensor, weight: Tensor) -> Tensor:
    """Distance of the points (arXiv 2512.16913) of every image in metres, (B,):  L = wmean( ‖d̂·r − d·r‖₁ ).

    Both points lie on the ray r of their pixel, so that the norm is |d̂ − d| · ‖r‖₁.
    """
    weight = counted(weight, target_m)
    known = weight > 0
    error_m = filled(prediction_m, known) - filled(target_m, known)
    height, width = error_m.shape[-2:]
    return weighted_mean(error_m.abs() * _ray_norms(height, width, error_m.device, error_m.dtype), weight)


@remembered
def _ray_norms(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return rays(height, width, dtype=torch.float64).abs().sum(dim=-1).to(device, dtype)


def dense_fidelity_loss(
    prediction_m: Tensor, target_m: Tensor, weight: Tensor, *, size: int | None = None, fov_deg: float = 90.0
) -> Tensor:
    """Dense fidelity (arXiv 2512.16913) of every image, (B,):  L = ¹⁄₁₂ Σₖ ‖ D̂ₖ·D̂ₖᵀ − Dₖ·Dₖᵀ ‖²_F.

    D̂ₖ and Dₖ are n×n perspective patches of the prediction and the truth, seen towards the vertices of an
    icosahedron; `size` is n, by default half the height, about the panorama's own resolution. The paper leaves their
    unit open. Here it is n times the root mean square distance in the patch, the true or the predicted, whichever is
    larger (a constant to the gradient): neither the size of the patch nor that of the scene matters, the loss
    lies in [0, 1], and a scene predicted s < 1 times as large as it is costs at most (1 − s²)². Pixels of weight 0
    are 0 in both patches; other weights do not matter, since patches see all directions nearly alike.
    """
    size = size or prediction_m.shape[-2] // 2
    known = counted(weight, target_m) > 0
    with torch.autocast(prediction_m.device.type, enabled=False):  # a difference of large products
        predicted = _patches((filled(prediction_m, known) * known)[:, None], size, fov_deg)[:, :, 0]
        with torch.no_grad():
            true, seen = _patches(torch.stack([filled(target_m, known) * known, known], dim=1), size, fov_deg).unbind(2)
            seen = seen > 0.999  # nothing unknown was mixed in
            unit = size * torch.maximum(_root_mean_square(true * seen), _root_mean_square(predicted * seen))
            share = seen / unit.clamp_min(EPSILON)
        return (_gram(predicted * share) - _gram(true * share)).square().sum(dim=(-2, -1)).mean(dim=1)


def _root_mean_square(patches: Tensor) -> Tensor:
    return patches.square().mean(dim=(-2, -1), keepdim=True).sqrt()


def _patches(maps: Tensor, size: int, fov_deg: float) -> Tensor:
    return perspective_views(maps, ICOSAHEDRON, (size, size), fov_deg=fov_deg)


def _gram(patches: Tensor) -> Tensor:
    return patches @ patches.transpose(-1, -2)


def dice(probability: Tensor, truth: Tensor, weight: Tensor, pool: Pool = alone) -> Tensor:
    """Dice loss over the whole batch: 1 − 2 Σ w·p·t / (Σ w·p + Σ w·t); 0 where both are empty."""
    probability, truth, weight = _known(probability, truth, weight)
    overlap = 2 * pool((weight * probability * truth).sum())
    return 1 - (overlap + EPSILON) / (pool((weight * (probability + truth)).sum()) + EPSILON)


def binary_cross_entropy(probability: Tensor, truth: Tensor, weight: Tensor, pool: Pool = alone) -> Tensor:
    """−wmean( t ln p + (1 − t) ln(1 − p) ) over the whole batch; finite for p of 0 and 1."""
    probability, truth, weight = _known(probability, truth, weight)
    probability = probability.clamp(EPSILON, 1 - EPSILON)
    loss = -torch.where(truth > 0.5, probability, 1 - probability).log()
    return weighted_mean(loss, weight, dims=(-3, -2, -1), pool=pool)


def range_mask_loss(
    probability: Tensor, beyond_range: Tensor, weight: Tensor, *, kind: str = "bce", pool: Pool = alone
) -> Tensor:
    """Loss of the range mask (arXiv 2512.16913): L = L_pixel + ½ · Dice, a scalar.

    The paper's equation has the squared error as L_pixel (`kind` "squared"), its text weighted cross entropy ("bce").
    """
    probability, truth, weight = _known(probability, beyond_range, weight)
    if kind == "squared":
        pixel = weighted_mean((probability - truth).square(), weight, dims=(-3, -2, -1), pool=pool)
    elif kind == "bce":
        pixel = binary_cross_entropy(probability, truth, weight, pool)
    else:
        raise ValueError(f"range-mask loss must be bce or squared, not {kind!r}")
    return pixel + 0.5 * dice(probability, truth, weight, pool)


def _known(probability: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three in full precision, with harmless values, and weight 0, where nothing is known."""
    dtype = working_dtype(probability.dtype)
    known = (weight > 0) & truth.isfinite()
    return probability.to(dtype).where(known, 0.5), truth.to(dtype).where(known, 0.0), weight * known


def hinge_loss(real_logits: Tensor, fake_logits: Tensor, weight: Tensor, pool: Pool = alone) -> Tensor:
    """Loss of a discriminator (arXiv 1705.02894), a scalar:  L = wmean( max(0, 1 − D(real)) + max(0, 1 + D(fake)) ).

    Logits are (B, …), `weight` is that of each image, (B,). The margin keeps the scores of samples apart, where cross
    entropy would press all of a beaten kind together.
    """
    errors = (1 - real_logits).relu() + (1 + fake_logits).relu()
    return weighted_mean(errors.reshape(len(errors), -1).mean(dim=1), weight, dims=(0,), pool=pool)
