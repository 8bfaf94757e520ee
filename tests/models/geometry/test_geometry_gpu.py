"""Geometry and losses give on a GPU what they give on a CPU, and stay there."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.geometry.cassini import cassini_to_erp
from dap_engine.models.geometry.normals import local_normals, to_world_axes
from dap_engine.models.geometry.patches import ICOSAHEDRON, fuse_views, perspective_views
from dap_engine.models.losses.objective import Target, dap_loss
from dap_engine.models.losses.weights import PUBLISHED, LossWeights

DEVICE = torch.device("cuda")
TURN = erp.rotation_matrix(yaw_deg=20, pitch_deg=30, roll_deg=-10)

FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    erp.point_map,
    lambda depth_m: torch.stack(to_world_axes(local_normals(depth_m)), dim=-1),
    lambda panorama: erp.rotate(panorama, TURN),
    lambda panorama: erp.resize(panorama, 48, 96),
    lambda panorama: perspective_views(panorama, ICOSAHEDRON, (16, 16)),
    lambda panorama: fuse_views(perspective_views(panorama, ICOSAHEDRON, (16, 16)), ICOSAHEDRON, 32)[0],
    lambda panorama: cassini_to_erp(panorama.mT),
]


@pytest.mark.gpu
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_geometry(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    panorama = (1 + torch.rand(2, 3, 32, 64)).to(dtype)
    result = function(panorama.to(DEVICE))
    assert result.device.type == DEVICE.type
    assert result.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    assert torch.allclose(result.cpu(), function(panorama), atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("weights", [PUBLISHED, LossWeights(affine_invariant=1.0, gradient_matching=2.0)])
@pytest.mark.parametrize("autocast", [False, True])
def test_losses(weights: LossWeights, autocast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    depth_m, probability, chance = (torch.rand((2, 32, 64), generator=generator) for _ in range(3))
    target = Target(1 + 50 * probability, chance < 0.8, chance > 0.9)
    terms, gradients = [], []
    for device in (torch.device("cpu"), DEVICE):
        predicted_m = (1 + 50 * depth_m).to(device).requires_grad_()
        on_device = Target(*(part.to(device) for part in target))
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            terms.append(dap_loss(predicted_m, probability.to(device), on_device, weights=weights))
        terms[-1]["total"].backward()
        assert predicted_m.grad is not None
        gradients.append(predicted_m.grad.cpu())
    for name, term in terms[0].items():
        assert torch.allclose(term, terms[1][name].cpu(), rtol=1e-4), name
    assert torch.allclose(*gradients, atol=1e-6, rtol=1e-3)
