import math

import pytest
import torch

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.cassini import cassini_to_erp
from tests.models.geometry.test_patches import smooth


def cassini_of_rays(width: int) -> torch.Tensor:
    """What a Cassini image is by definition, (1, 3, 2W, W): arcsin y falls by column, atan2(z, x) by row."""
    sideways = math.pi / 2 - math.pi * (torch.arange(width).double() + 0.5) / width
    around = math.pi - math.pi * (torch.arange(2 * width).double()[:, None] + 0.5) / width
    x, z = sideways.cos() * around.cos(), sideways.cos() * around.sin()
    return torch.stack([x, sideways.sin().expand_as(x), z])[None]


def erp_to_cassini(panorama: torch.Tensor) -> torch.Tensor:
    """Panoramas (B, C, H, 2H) to Cassini images (B, C, 2H, H): the exchange of the poles undoes itself."""
    return cassini_to_erp(panorama.mT).mT


def test_cassini_images_become_panoramas() -> None:
    panorama = cassini_to_erp(cassini_of_rays(128))
    rays = erp.rays(128, 256, dtype=torch.float64).permute(2, 0, 1)
    assert torch.allclose(panorama[0], rays, atol=1e-3)
    assert torch.allclose(erp_to_cassini(rays[None]), cassini_of_rays(128), atol=1e-3)


def test_cassini_there_and_back() -> None:
    panorama = smooth(128)
    assert torch.allclose(cassini_to_erp(erp_to_cassini(panorama)), panorama, atol=2e-3)


def test_cassini_depth_keeps_its_values() -> None:
    depth_m = torch.randint(1, 50, (1, 1, 32, 16)).float()
    assert set(cassini_to_erp(depth_m, mode="nearest").unique().tolist()) <= set(depth_m.unique().tolist())


def test_the_sides_of_a_cassini_image() -> None:
    """Left is left; from top to bottom: behind, above, ahead, below."""
    image = torch.zeros(1, 1, 64, 32)
    image[..., 32, 15:17] = 1
    assert cassini_to_erp(image)[0, 0].argmax() in (15 * 64 + 31, 15 * 64 + 32, 16 * 64 + 31, 16 * 64 + 32)
    left = torch.zeros(1, 1, 64, 32)
    left[..., 0] = 1
    assert (cassini_to_erp(left)[0, 0, 15:17, 15:17] > 0).all()
    above = torch.zeros(1, 1, 64, 32)
    above[..., 14:18, :] = 1
    panorama = cassini_to_erp(above)[0, 0]
    assert panorama[0].min() > panorama[-1].max()


def test_gradients_and_half_precision() -> None:
    cassini = torch.rand(1, 1, 8, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cassini_to_erp, cassini)
    half = torch.rand(1, 1, 512, 256).bfloat16()
    assert torch.equal(cassini_to_erp(half), cassini_to_erp(half.float()).bfloat16())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="twice as many pixels"):
        cassini_to_erp(torch.rand(1, 3, 8, 16))
