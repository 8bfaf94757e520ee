import itertools
import math

import numpy as np
import py360convert
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.patches import (
    ICOSAHEDRON,
    View,
    fuse_views,
    image_plane,
    perspective_views,
    view_directions,
)


def smooth(height: int) -> Tensor:
    """A panorama without edges, (1, 2, H, 2H): two polynomials of the ray."""
    x, y, z = erp.rays(height, 2 * height, dtype=torch.float64).unbind(dim=-1)
    return torch.stack([x + 2 * y * z, z * z - 0.5 * x * y])[None]


def fov_of_py360(fov_deg: float, pixels: int) -> float:
    """py360convert's outermost pixel centres, not edges, lie at the field of view; the same view in our terms."""
    return math.degrees(2 * math.atan(math.tan(math.radians(fov_deg) / 2) * pixels / (pixels - 1)))


@settings(max_examples=30)
@given(st.integers(-180, 180), st.integers(-90, 90), st.integers(30, 120))
def test_views_are_those_of_py360convert(yaw_deg: int, pitch_deg: int, fov_deg: int) -> None:
    """Its yaw is positive to the right; it rounds positions to 1/32 of a pixel."""
    panorama = smooth(64)
    theirs = py360convert.e2p(panorama[0].permute(1, 2, 0).numpy(), (fov_deg, fov_deg), -yaw_deg, pitch_deg, (21, 21))
    ours = perspective_views(panorama, [View(yaw_deg, pitch_deg)], (21, 21), fov_deg=fov_of_py360(fov_deg, 21))
    assert np.abs(ours[0, 0].permute(1, 2, 0).numpy() - theirs).max() < 0.01


@pytest.mark.parametrize("view", [*ICOSAHEDRON, View(180, 0), View(10, 90), View(-70, -90), View(40, 30, 50)])
def test_views_see_the_sphere_as_it_is(view: View) -> None:
    """Of a panorama that holds its rays, a view holds the directions it looks in: seam and poles included."""
    panorama = erp.rays(128, 256, dtype=torch.float64).permute(2, 0, 1)[None]
    seen = perspective_views(panorama, [view], (20, 30), fov_deg=70)[0, 0].permute(1, 2, 0)
    directions = torch.nn.functional.normalize(view_directions([view], (20, 30), fov_deg=70)[0], dim=-1)
    assert torch.allclose(seen, directions, atol=5e-4)


def test_the_middle_of_a_view_is_where_it_looks() -> None:
    for view, axis in [(View(), (1, 0, 0)), (View(90), (0, 1, 0)), (View(0, 90), (0, 0, 1))]:
        middle = view_directions([view], (3, 3))[0, 1, 1]
        assert torch.allclose(middle, torch.tensor(axis).double(), atol=1e-12)
    first = image_plane((2, 2), fov_deg=90)[0, 0]
    assert first.tolist() == pytest.approx([1, 0.5, 0.5])  # the upper left pixel looks left and up


def test_the_icosahedron_is_regular_and_covers_the_sphere() -> None:
    axes = view_directions(ICOSAHEDRON, (1, 1))[:, 0, 0]
    distances_deg = torch.rad2deg((axes @ axes.T).clamp(-1, 1).acos()).round(decimals=6)
    expected = [0.0, *[63.434949] * 5, *[116.565051] * 5, 180.0]
    assert all(sorted(row) == pytest.approx(expected, abs=1e-4) for row in distances_deg.tolist())
    images = torch.ones(1, 12, 1, 8, 8)
    assert (fuse_views(images, ICOSAHEDRON, 64, fov_deg=76)[1] > 0).all()
    assert (fuse_views(images, ICOSAHEDRON, 64, fov_deg=60)[1] == 0).any()


def test_views_turn_with_the_panorama() -> None:
    """Half a turn takes the icosahedron to itself; any whole column of yaw turns the view along."""
    panorama = torch.rand(2, 1, 32, 64, dtype=torch.float64)
    for columns in (1, 17, 32):
        turned = [View(view.yaw_deg - 360 * columns / 64, view.pitch_deg) for view in ICOSAHEDRON]
        views = perspective_views(panorama, ICOSAHEDRON, (8, 8))
        assert torch.allclose(perspective_views(erp.roll_yaw(panorama, columns), turned, (8, 8)), views, atol=1e-9)
    half, whole = (perspective_views(erp.roll_yaw(panorama, c), ICOSAHEDRON, (8, 8)) for c in (32, 0))
    for view in half.unbind(1):
        assert any(torch.allclose(view, other, atol=1e-9) for other in whole.unbind(1))


def test_a_wall_in_a_perspective_view_has_one_z_depth() -> None:
    """A wall 4 m ahead: z-depth 4 m in every pixel; its ray distances, patched out of a panorama, agree."""
    rays = erp.rays(256, 512, dtype=torch.float64)
    wall_m = (4 / rays[..., 0].clamp_min(0.1))[None, None]
    seen_m = perspective_views(wall_m, [View()], (40, 60), fov_deg=80)[0, 0, 0]
    from_z_m = 4 * image_plane((40, 60), fov_deg=80).norm(dim=-1)
    assert torch.allclose(seen_m, from_z_m, rtol=1e-4)


def test_views_put_together_are_the_panorama() -> None:
    panorama = smooth(64)
    views = perspective_views(panorama, ICOSAHEDRON, (96, 96), fov_deg=80)
    fused, weight = fuse_views(views, ICOSAHEDRON, 64, fov_deg=80)
    assert (weight > 0).all()
    assert torch.allclose(fused, panorama, atol=2e-3)


def test_what_no_view_sees_has_no_value() -> None:
    fused, weight = fuse_views(torch.ones(1, 1, 1, 8, 8), [View()], 16)
    assert ((weight > 0) == (fused[0, 0] > 0)).all()
    assert weight[8, 16] > 0  # ahead
    assert weight[8, 0] == 0  # behind


def test_gradients_and_half_precision() -> None:
    panorama = torch.rand(1, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: perspective_views(p, ICOSAHEDRON[:3], (3, 3)), panorama)
    images = torch.rand(1, 2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i: fuse_views(i, ICOSAHEDRON[:2], 4)[0], images)
    half = torch.rand(1, 1, 128, 256).bfloat16()
    views = perspective_views(half, ICOSAHEDRON, (16, 16))
    assert torch.equal(views, perspective_views(half.float(), ICOSAHEDRON, (16, 16)).bfloat16())


def test_batches_and_channels_stay_apart() -> None:
    panorama = torch.rand(3, 2, 8, 16)
    views = perspective_views(panorama, ICOSAHEDRON[:4], (5, 7))
    assert views.shape == (3, 4, 2, 5, 7)
    for image, view, channel in itertools.product(range(3), range(4), range(2)):
        alone = perspective_views(panorama[image, channel][None, None], [ICOSAHEDRON[view]], (5, 7))
        assert torch.equal(views[image, view, channel], alone[0, 0, 0])


@pytest.mark.parametrize("fov_deg", [0, 180, -30, 400])
def test_impossible_views_are_refused(fov_deg: float) -> None:
    with pytest.raises(ValueError, match="more than 0° and less than 180°"):
        perspective_views(torch.rand(1, 1, 8, 16), [View()], (4, 4), fov_deg=fov_deg)
