import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.geometry import equirectangular as erp

ANGLES = st.floats(-180, 180)


def test_rays_are_units_that_look_where_the_convention_says() -> None:
    rays = erp.rays(90, 180, dtype=torch.float64)
    assert torch.allclose(rays.norm(dim=-1), torch.ones(90, 180, dtype=torch.float64))
    centre = rays[44:46, 89:91].mean(dim=(0, 1))
    assert torch.allclose(centre, torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-3)
    assert rays[45, 45, 1] > 0.99  # a quarter from the left edge looks to the left, +y
    assert rays[0, :, 2].min() > 0.99
    assert rays[-1, :, 2].max() < -0.99


@pytest.mark.parametrize(("height", "width"), [(2, 4), (96, 192), (33, 70)])
def test_solid_angles_cover_the_sphere(height: int, width: int) -> None:
    total = erp.solid_angle(height, width, dtype=torch.float64).sum()
    assert total.item() == pytest.approx(4 * math.pi, rel=1e-12)
    assert erp.solid_angle(height, width).shape == (height, width)


def test_solid_angle_is_that_of_the_spherical_zone() -> None:
    edges = torch.linspace(math.pi / 2, -math.pi / 2, 9, dtype=torch.float64).sin()
    zones = erp.solid_angle(8, 16, dtype=torch.float64).sum(dim=1)
    assert torch.allclose(zones, 2 * math.pi * (edges[:-1] - edges[1:]))


def test_a_floor_is_flat_in_the_point_map() -> None:
    """Ray distance to the plane z = −1.5 is 1.5 / sin(−φ)."""
    phi = erp.latitudes(64, dtype=torch.float64)[:, None].expand(64, 128)
    depth_m = torch.where(phi < 0, -1.5 / phi.sin(), 1.0)
    points = erp.point_map(depth_m)
    assert torch.allclose(points[32:, :, 2], torch.full((32, 128), -1.5, dtype=torch.float64))
    assert torch.allclose(points.norm(dim=-1), depth_m)


def test_directions_are_found_again_in_their_own_pixels() -> None:
    columns, rows = erp.directions_to_pixels(3 * erp.rays(16, 32, dtype=torch.float64), 16, 32)
    assert torch.allclose(columns, (torch.arange(32) + 0.5).double().expand(16, 32))
    assert torch.allclose(rows, (torch.arange(16) + 0.5).double()[:, None].expand(16, 32))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sampling_at_pixel_centres_is_the_identity(mode: str) -> None:
    panorama = torch.rand(2, 3, 8, 16)
    assert torch.allclose(erp.rotate(panorama, torch.eye(3), mode=mode), panorama, atol=1e-5)


@pytest.mark.parametrize("columns", [0, 1, 5, 16, 31])
def test_turning_by_whole_columns_is_a_roll(columns: int) -> None:
    """A camera turned to the left sees the scene move to the right."""
    panorama = torch.rand(1, 2, 16, 32, dtype=torch.float64)
    rotation = erp.rotation_matrix(yaw_deg=360 * columns / 32)
    assert torch.allclose(erp.rotate(panorama, rotation), erp.roll_yaw(panorama, columns), atol=1e-9)


@given(ANGLES, st.floats(-90, 90), ANGLES)
def test_rotation_moves_a_smooth_scene_as_it_should(yaw_deg: float, pitch_deg: float, roll_deg: float) -> None:
    """Poles and seam included: the scene is linear in the ray, so the rotated picture is known in closed form."""
    axis = torch.tensor([0.5, -0.3, 0.8], dtype=torch.float64)
    rays = erp.rays(64, 128, dtype=torch.float64)
    rotation = erp.rotation_matrix(yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg)
    turned = erp.rotate((rays @ axis)[None, None], rotation)[0, 0]
    assert torch.allclose(turned, (rays @ rotation.T) @ axis, atol=2e-3)


def test_rotation_angles_have_the_signs_they_say() -> None:
    forward, left = torch.tensor([1.0, 0, 0]).double(), torch.tensor([0, 1.0, 0]).double()
    assert (erp.rotation_matrix(yaw_deg=10) @ forward)[1] > 0
    assert (erp.rotation_matrix(pitch_deg=10) @ forward)[2] > 0
    assert (erp.rotation_matrix(roll_deg=10) @ left)[2] > 0


def test_rotations_may_differ_over_the_batch() -> None:
    panorama = torch.rand(2, 1, 8, 16)
    rotations = torch.stack([torch.eye(3), erp.rotation_matrix(yaw_deg=90).float()])
    turned = erp.rotate(panorama, rotations)
    assert torch.allclose(turned[0], panorama[0], atol=1e-5)
    assert torch.allclose(turned[1], panorama[1].roll(4, -1), atol=1e-5)


def test_padding_continues_over_the_seam_and_the_poles() -> None:
    """Of a map of longitudes and latitudes, the padding holds those of the true neighbours."""
    rays = erp.rays(8, 16).permute(2, 0, 1)
    neighbours = erp.pad_sphere(rays, 1)
    assert neighbours.shape == (3, 10, 18)
    steps = (neighbours[:, 1:] - neighbours[:, :-1]).norm(dim=0)
    assert steps.max() < 1.05 * math.pi / 8  # over the poles, too, a row is one step of latitude
    assert torch.equal(neighbours[:, 1:-1, 0], rays[:, :, -1])


def test_resizing_commutes_with_turning() -> None:
    panorama = torch.rand(1, 2, 8, 16)
    large = erp.resize(panorama, 24, 48)
    assert large.shape == (1, 2, 24, 48)
    assert torch.allclose(erp.resize(panorama.roll(3, -1), 24, 48), large.roll(9, -1), atol=1e-5)


@given(st.integers(-70, 70), st.booleans())
def test_rotation_and_its_inverse_give_the_panorama_back(columns: int, nearest: bool) -> None:
    panorama = torch.rand(1, 1, 16, 32, dtype=torch.float64)
    mode = "nearest" if nearest else "bilinear"
    rotation = erp.rotation_matrix(yaw_deg=360 * columns / 32)
    back = erp.rotate(erp.rotate(panorama, rotation, mode=mode), rotation.T, mode=mode)
    assert torch.allclose(back, panorama, atol=1e-9)


def test_a_turned_camera_sees_a_plane_at_its_new_distances() -> None:
    """Ray distance to the plane n·x = 2 is 2 / n·r, where it is in front; turned, the normal is Rᵀn."""
    normal = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    rays = erp.rays(128, 256, dtype=torch.float64)
    rotation = erp.rotation_matrix(yaw_deg=33, pitch_deg=-20, roll_deg=75)
    depth_m, turned_m = (2 / (rays @ n).clamp_min(0.2) for n in (normal, rotation.T @ normal))
    found_m = erp.rotate(depth_m[None, None], rotation, mode="nearest")[0, 0]
    assert ((found_m - turned_m).abs() / turned_m).max() < 0.1  # half a pixel where the plane is grazed
    assert ((found_m - turned_m).abs() / turned_m).mean() < 5e-3


def test_rotation_can_be_learned() -> None:
    panorama = erp.rays(16, 32, dtype=torch.float64).permute(2, 0, 1)[None]
    rotation = erp.rotation_matrix(yaw_deg=13, pitch_deg=7).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: erp.rotate(panorama, r)[..., 4:12, :], rotation, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_costs_no_place(dtype: torch.dtype) -> None:
    """Columns beyond 256 are no numbers of bfloat16: only the result may be rounded to it, not the positions."""
    rays = erp.rays(512, 1024)
    assert torch.equal(erp.rays(512, 1024, dtype=dtype), rays.to(dtype))
    assert torch.equal(erp.solid_angle(512, 1024, dtype=dtype), erp.solid_angle(512, 1024).to(dtype))
    panorama = torch.rand(1, 1, 512, 1024).to(dtype)
    rotation = erp.rotation_matrix(yaw_deg=30, pitch_deg=40)
    turned = erp.rotate(panorama, rotation)
    assert turned.dtype == dtype
    assert torch.equal(turned, erp.rotate(panorama.float(), rotation).to(dtype))
    points = erp.point_map(panorama[0, 0])
    assert points.dtype == dtype
    assert torch.equal(points, (panorama[0, 0].float()[..., None] * rays).to(dtype))


def test_masks_are_sampled_as_masks() -> None:
    mask = torch.rand(1, 1, 8, 16) > 0.5
    assert torch.equal(erp.rotate(mask, erp.rotation_matrix(yaw_deg=45), mode="nearest"), mask.roll(2, -1))
    with pytest.raises(ValueError, match="only mode nearest can sample"):
        erp.rotate(mask, torch.eye(3))


def test_what_is_remembered_can_enter_a_gradient_later() -> None:
    @erp.remembered
    def ones(count: int) -> torch.Tensor:
        return torch.ones(count)

    with torch.inference_mode():
        first = ones(3)
    assert ones(3) is first
    learned = torch.ones(3, requires_grad=True)
    (learned * first).sum().backward()
    assert learned.grad is not None
    assert torch.equal(learned.grad, torch.ones(3))
