"""Views fused on the sphere: exact on an analytic room, whatever scale and shift each view has of its own."""

import numpy as np
import pytest
import torch

from dap_engine.models.geometry.equirectangular import rays
from dap_engine.models.geometry.patches import ICOSAHEDRON, view_directions
from dap_engine.models.labelers.fusion import fuse_on_sphere, views_of
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.metrics.alignment import align
from tests.footage import panorama

PATCHES = Patches(size=128, fov_deg=90)
HEIGHT = 64
RNG = np.random.default_rng(5)


def room_m(directions: torch.Tensor) -> torch.Tensor:
    """Distance along directions (..., 3), of any length, in their own lengths, to the walls of a box around us."""
    walls = torch.tensor([[3.0, -2.0], [4.0, -2.5], [1.4, -1.2]], dtype=torch.float64)
    hits = torch.where(directions > 0, walls[:, 0], walls[:, 1]) / directions
    return hits.abs().amin(dim=-1)


Z_M = room_m(view_directions(ICOSAHEDRON, (128, 128), fov_deg=90)).numpy()
"""Exact depth along the axis of every view: the directions have length 1 there."""
TRUTH_M = room_m(rays(HEIGHT, 2 * HEIGHT, dtype=torch.float64))


def off(found_m: torch.Tensor) -> torch.Tensor:
    return ((found_m - TRUTH_M).abs() / TRUTH_M).flatten()


def fused(maps: np.ndarray, output) -> torch.Tensor:
    return torch.from_numpy(fuse_on_sphere(maps, output, HEIGHT, PATCHES)).double()


def test_exact_depth_of_views_is_exact_distance():
    """Within what interpolation between pixels of a view costs, which is most at the room's edges."""
    error = off(fused(Z_M, "metric-depth"))
    assert error.median() < 1e-4
    assert error.max() < 0.02


def test_views_that_disagree_on_scale_are_brought_to_agree():
    scales = RNG.uniform(0.7, 1.4, 12)
    found_m = fused(Z_M * scales[:, None, None], "metric-depth")
    ratio = found_m / TRUTH_M
    assert ratio.std() / ratio.mean() < 1e-3
    assert ratio.mean().item() == pytest.approx(np.mean(scales), rel=1e-3)  # the mean of what they say stays


@pytest.mark.parametrize(
    ("output", "maps", "alignment"),
    [
        ("relative-disparity", 1 / Z_M, "disparity"),
        ("relative-depth", Z_M, "scale-shift"),
    ],
)
def test_relative_views_are_one_panorama_up_to_scale(output, maps, alignment):
    scales, shifts = RNG.uniform(0.2, 5, (12, 1, 1)), RNG.uniform(-0.3, 0.3, (12, 1, 1))
    found = fused((maps - shifts) / scales, output)
    aligned = align(found, TRUTH_M, torch.ones_like(TRUTH_M, dtype=torch.bool), alignment)
    assert off(aligned).median() < 2e-3
    assert off(aligned).max() < 0.05
    exact = TRUTH_M if output == "relative-depth" else 1 / TRUTH_M
    assert (found / exact).std() / (found / exact).mean() < 0.01, "the shifts are found, only a scale is open"


@pytest.mark.parametrize("noise", [0, 1e-4])
def test_views_that_are_all_sky_do_not_swallow_the_scale(noise):
    """A floor under the sky: the views up are flat, or all noise, and each has a scale and a shift of its own."""
    down = -view_directions(ICOSAHEDRON, (128, 128), fov_deg=90)[..., 2].numpy()
    disparity = np.maximum(down, 0) / 1.5  # per metre of the axis; 0 in the sky
    assert (disparity.max(axis=(1, 2)) == 0).sum() >= 2
    scales, shifts = RNG.uniform(0.5, 2, (12, 1, 1)), RNG.uniform(-0.1, 0.1, (12, 1, 1))
    found = fused(disparity * scales + shifts + noise * RNG.standard_normal(disparity.shape), "relative-disparity")
    truth = (-rays(HEIGHT, 2 * HEIGHT, dtype=torch.float64)[..., 2]).clamp_min(0) / 1.5
    scale = (found * truth).sum() / truth.square().sum()
    assert scale > 0.1
    assert (found / scale - truth).abs().max() < (0.01 if noise == 0 else 0.05)


def test_flat_views_stay_flat():
    found = fused(np.full((12, 16, 16), 3.0), "relative-disparity")
    assert torch.isfinite(found).all()
    assert torch.isfinite(fused(np.zeros((12, 16, 16)), "relative-disparity")).all()
    assert torch.isfinite(fused(np.zeros((12, 16, 16)), "metric-depth")).all()


def test_without_bringing_them_to_agree_it_would_show():
    """The control: what the blend of scaled views is off by if each is taken as it is."""
    scales = RNG.uniform(0.7, 1.4, (12, 1, 1))
    from dap_engine.models.geometry.patches import fuse_views, image_plane

    lengths = image_plane((128, 128), fov_deg=90).norm(dim=-1)
    maps = torch.from_numpy(Z_M * scales) * lengths
    plain, _ = fuse_views(maps[None, :, None], ICOSAHEDRON, HEIGHT)
    ratio = plain[0, 0] / TRUTH_M
    assert ratio.std() / ratio.mean() > 0.05


def test_views_are_pictures_of_the_panorama():
    views = views_of(panorama(32, 1), Patches(size=24))
    assert len(views) == 12
    assert {(view.shape, view.dtype) for view in views} == {((24, 24, 3), np.dtype(np.uint8))}


def test_metric_views_may_see_the_sky():
    down = -view_directions(ICOSAHEDRON, (128, 128), fov_deg=90)[..., 2].numpy()
    z_m = 1.5 / np.where(down > 0, down, np.nan)
    found_m = fused(np.nan_to_num(z_m, nan=np.inf), "metric-depth")
    truth_m = (-1.5 / rays(HEIGHT, 2 * HEIGHT, dtype=torch.float64)[..., 2])[HEIGHT // 2 + 3 :]
    assert torch.isinf(found_m[: HEIGHT // 2 - 3]).all()
    assert ((found_m[HEIGHT // 2 + 3 :] - truth_m).abs() / truth_m).max() < 0.01


def test_nan_is_refused():
    with pytest.raises(ValueError, match="nan"):
        fuse_on_sphere(np.full((12, 16, 16), np.nan), "metric-depth", 16, Patches(size=16))


@pytest.mark.parametrize("settings", [{"size": 8}, {"fov_deg": 60}, {"fov_deg": 180}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="patches"):
        Patches(**settings)
