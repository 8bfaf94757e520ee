import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.normals import local_normals, to_world_axes

HEIGHT, WIDTH = 32, 64
RAYS = erp.rays(HEIGHT, WIDTH, dtype=torch.float64)


def world_normals(depth_m: Tensor) -> Tensor:
    """Normals (..., H, W, 3) of distances (..., H, W) in the axes of the world."""
    return torch.stack(to_world_axes(local_normals(depth_m)), dim=-1)


def plane_m(normal: Tensor, distance_m: float, rays: Tensor = RAYS) -> Tensor:
    """Ray distances to the plane through −distance·normal, whose normal faces the camera; negative where behind."""
    return distance_m / -(rays @ normal)


def box_m(rays: Tensor, half_sizes_m: Tensor, offset_m: Tensor) -> tuple[Tensor, Tensor]:
    """Ray distances to the inside of a box around a camera beside its centre, and the true normals."""
    walls_m = torch.where(rays > 0, half_sizes_m - offset_m, half_sizes_m + offset_m) / rays.abs()
    nearest = walls_m.min(dim=-1)
    normals = -torch.nn.functional.one_hot(nearest.indices, 3) * rays.sign()
    return nearest.values, normals


def inside_faces(normals: Tensor) -> Tensor:
    """The pixels whose four neighbours, over the poles and around the seam too, lie on the same face."""
    padded = erp.pad_sphere(normals.permute(2, 0, 1), 1)
    centre = padded[:, 1:-1, 1:-1]
    shifted = [padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]]
    return torch.stack([(centre == other).all(dim=0) for other in shifted]).all(dim=0)


def test_a_sphere_around_the_camera_faces_it_everywhere() -> None:
    normals = world_normals(torch.full((HEIGHT, WIDTH), 3.0, dtype=torch.float64))
    assert torch.allclose(normals, -RAYS, atol=1e-12)


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(0.1, 80))
def test_a_plane_has_one_normal(yaw_deg: float, pitch_deg: float, distance_m: float) -> None:
    normal = erp.rotation_matrix(yaw_deg=yaw_deg, pitch_deg=pitch_deg)[:, 0]
    depth_m = plane_m(normal, distance_m)
    in_front = (depth_m > 0) & (depth_m < 50 * distance_m)
    padded = erp.pad_sphere(in_front, 1)
    whole = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    normals = world_normals(torch.where(in_front, depth_m, 1.0))
    assert torch.allclose(normals[whole], normal.expand_as(normals)[whole], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_inside_of_a_box_is_exact_at_its_poles_and_seam(dtype: torch.dtype) -> None:
    half_sizes_m, offset_m = torch.tensor([2.0, 3.0, 1.5]).double(), torch.tensor([0.4, -0.7, 0.2]).double()
    depth_m, truth = box_m(erp.rays(256, 512, dtype=torch.float64), half_sizes_m, offset_m)
    inside = inside_faces(truth)
    assert inside[[0, -1]].all()  # the poles
    assert inside[128, [0, -1]].all()  # the seam
    error = (world_normals(depth_m.to(dtype)) - truth)[inside].abs().max()
    assert error < (1e-10 if dtype == torch.float64 else 2e-3)  # float32 distances of grazed walls are rounded


def test_turning_turns_normals_to_the_pixel() -> None:
    """Rolled columns give rolled normals, turned about the vertical; the seam is a place like any other."""
    depth_m = 1 + torch.rand(3, HEIGHT, WIDTH, dtype=torch.float64)
    rotation = erp.rotation_matrix(yaw_deg=360 * 5 / WIDTH)
    turned = world_normals(erp.roll_yaw(depth_m, 5))
    expected = world_normals(depth_m).roll(5, dims=-2) @ rotation
    assert torch.allclose(turned, expected, atol=1e-12)


def test_scale_is_no_matter() -> None:
    depth_m = 1 + torch.rand(HEIGHT, WIDTH)
    normals = world_normals(depth_m)
    for factor in (1e-6, 1e6):
        assert torch.allclose(world_normals(factor * depth_m), normals, atol=1e-5)
    assert torch.allclose(normals.norm(dim=-1), torch.ones(HEIGHT, WIDTH))
    assert ((normals * RAYS).sum(-1) < 0).all()


def test_gradients_are_those_of_the_values() -> None:
    depth_m = (1 + torch.rand(4, 8, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(world_normals, depth_m)


def test_what_is_unknown_has_no_normal() -> None:
    depth_m = torch.ones(HEIGHT, WIDTH)
    depth_m[10, 0] = math.nan
    unknown = world_normals(depth_m).isnan().any(dim=-1)
    assert {tuple(place) for place in unknown.nonzero().tolist()} == {(9, 0), (11, 0), (10, 1), (10, WIDTH - 1)}
