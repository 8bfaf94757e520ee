import math

import numpy as np
import py360convert
import pytest
import torch

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.cubemap import FACES, cubemap_to_erp, erp_to_cubemap
from dap_engine.models.geometry.patches import perspective_views
from tests.models.geometry.test_patches import smooth


def test_faces_are_those_of_py360convert() -> None:
    """Its outermost pixel centres lie on the edges of the cube, ours half a pixel inside."""
    panorama, size = smooth(64), 17
    theirs = py360convert.e2c(panorama[0].permute(1, 2, 0).numpy(), face_w=size, cube_format="list")
    wider_deg = math.degrees(2 * math.atan(size / (size - 1)))
    ours = perspective_views(panorama, FACES, (size, size), fov_deg=wider_deg)[0].permute(0, 2, 3, 1).numpy()
    for face, other in zip(ours, theirs, strict=True):
        assert np.abs(face - other).max() < 0.01


def test_the_inside_of_a_cube_is_flat_on_its_faces() -> None:
    """Ray distance in a cube of half size 1, times the forward part of the ray, is 1 on every face."""
    rays = erp.rays(256, 512, dtype=torch.float64)
    depth_m = 1 / rays.abs().amax(dim=-1)
    faces_m = erp_to_cubemap(depth_m[None, None], 64)
    left, up = torch.meshgrid(*[1 - (2 * torch.arange(64).double() + 1) / 64] * 2, indexing="xy")
    assert torch.allclose(faces_m, (1 + left**2 + up**2).sqrt().expand_as(faces_m), rtol=2e-3)


@pytest.mark.parametrize(("size", "height"), [(64, 64), (33, 40)])
def test_there_and_back_across_all_edges(size: int, height: int) -> None:
    panorama = smooth(height)
    back = cubemap_to_erp(erp_to_cubemap(panorama, size), height)
    assert torch.allclose(back, panorama, atol=8e-3)


def test_faces_meet_without_a_step() -> None:
    """Of faces that hold their own directions, every pixel of the panorama gets its ray, at edges and corners too."""
    directions = erp_to_cubemap(erp.rays(512, 1024, dtype=torch.float64).permute(2, 0, 1)[None], 32)
    panorama = cubemap_to_erp(directions, 64)[0].permute(1, 2, 0)
    assert (panorama - erp.rays(64, 128, dtype=torch.float64)).norm(dim=-1).max() < 2e-3


def test_nearest_invents_no_value() -> None:
    faces = torch.randint(0, 9, (2, 6, 1, 8, 8), dtype=torch.uint8)
    panorama = cubemap_to_erp(faces, 32, mode="nearest")
    assert panorama.dtype == torch.uint8
    assert torch.equal(panorama[:, :, 16, 32], faces[:, 0, :, 4, 4])  # ahead, right and below of the middle
    with pytest.raises(ValueError, match="only mode nearest"):
        cubemap_to_erp(faces, 32)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="six square faces"):
        cubemap_to_erp(torch.rand(1, 5, 3, 8, 8), 16)


def test_gradients_go_both_ways() -> None:
    faces = torch.rand(1, 6, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: cubemap_to_erp(f, 4), faces)
    panorama = torch.rand(1, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: erp_to_cubemap(p, 2), panorama)
