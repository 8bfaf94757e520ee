"""Perspective depth of overlapping views, fused into a panorama of ray distances.

View i gives p_i along its axis; ℓ_i is the length of its ray through the image plane at distance 1. What is brought to
agree, q_i = s_i u_i + t_i v_i, is linear in the unknown scale and shift of each view:

    metric-depth         q = 1/r     u = 1 / (ℓ p)    no shift
    relative-depth       q = r       u = ℓ p          v = ℓ
    relative-disparity   q = 1/r     u = p / ℓ        v = 1 / ℓ

The scales and shifts minimise Σ w_i w_j (q_i − q_j)² over the directions that two views see, with weights w that fall
off to the borders of views, and with Σ c_i s_i = Σ c_i, which rules zeros out: a linear system. c_i is 1 for metric
views, for others what no shift can take away, |u_i − v_i ⟨u_i, v_i⟩ / ⟨v_i, v_i⟩|, and 0 for a view that is all sky,
whose scale means nothing. An overall scale stays open for relative outputs; an overall shift does not, since shifts
along different axes are no common one. The views are then blended by their weights.
"""

import numpy as np
import torch
from torch import Tensor

from ..geometry.patches import ICOSAHEDRON, fuse_views, image_plane, perspective_views
from .outputs import METRIC, Output
from .patches import Patches

_SOLVED_HEIGHT = 64  # rows of the panorama over which views are brought to agree
_LEAST = 1e-3  # metres: smaller metric depths are raised to it
_RIDGE = 1e-9  # keeps the system solvable where a view is flat, and its scale means nothing
_FLAT = 1e-6  # of the size of all views: less content is rounding


def views_of(rgb: np.ndarray, patches: Patches) -> list[np.ndarray]:
    """The views of a panorama (H, W, 3) uint8: (size, size, 3) uint8 each."""
    panorama = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float()
    views = perspective_views(panorama, ICOSAHEDRON, (patches.size, patches.size), fov_deg=patches.fov_deg)
    return list(views[0].round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def fuse_on_sphere(maps: np.ndarray, output: Output, height: int, patches: Patches) -> np.ndarray:
    """Maps of the views (N, h, w) to a panorama (H, 2H) float32 of ray distances, or of their inverses.

    Metric depth may be inf; ValueError if anything is nan.
    """
    if np.isnan(maps).any():
        raise ValueError("a depth model gave nan")
    values = torch.from_numpy(maps).double()
    lengths = image_plane((values.shape[-2], values.shape[-1]), fov_deg=patches.fov_deg).norm(dim=-1)
    basis = _basis(values, lengths, output)
    scales = _agree(basis, patches)
    agreed = torch.einsum("nk,nkhw->nhw", scales, basis)
    fused, _ = fuse_views(agreed[None, :, None], ICOSAHEDRON, height, fov_deg=patches.fov_deg)
    return (1 / fused if output == METRIC else fused)[0, 0].float().numpy()


def _basis(values: Tensor, lengths: Tensor, output: Output) -> Tensor:
    """u_i, and v_i where there is a shift, (N, 1 or 2, h, w)."""
    if output == METRIC:
        return 1 / (lengths * values.clamp_min(_LEAST))[:, None]
    factor = lengths if output == "relative-depth" else 1 / lengths
    u, v = values * factor, factor.expand_as(values)
    size = u.square().mean().sqrt()
    return torch.stack([u / size.where(size > 0, 1), v], dim=1)


def _agree(basis: Tensor, patches: Patches) -> Tensor:
    """The weights of the basis (N, K), scales and maybe shifts, that make the views agree best."""
    views, count = basis.shape[:2]
    seen, weights = _on_sphere(basis, patches)
    others = weights.sum(dim=0) - weights
    gram = -torch.einsum("nkp,np,mlp,mp->nkml", seen, weights, seen, weights)
    own = torch.einsum("nkp,nlp,np->nkl", seen, seen, weights * others)
    for view in range(views):
        gram[view, :, view] = own[view]
    system = gram.reshape(views * count, views * count)
    system += _RIDGE * system.diagonal().mean() * torch.eye(len(system), dtype=system.dtype)
    held = torch.zeros(views, count, dtype=system.dtype)
    held[:, 0] = _content(basis)
    direction = torch.linalg.solve(system, held.flatten())
    return (direction * held.sum() / (held.flatten() @ direction)).view(views, count)


def _content(basis: Tensor) -> Tensor:
    """c_i of the views, (N,). Where no view has any, 1 for all."""
    u = basis[:, 0].flatten(1)
    if basis.shape[1] == 1:
        content = (u.amax(dim=-1) > 0).to(u.dtype)
    else:
        v = basis[:, 1].flatten(1)
        common = (u * v).sum(dim=-1, keepdim=True) / v.square().sum(dim=-1, keepdim=True)
        content = (u - common * v).square().mean(dim=-1).sqrt()
    return content if content.max() > _FLAT else torch.ones_like(content)


def _on_sphere(basis: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
    """The basis of every view in the directions of a small panorama (N, K, P), and the view's weights there (N, P)."""
    seen, weights = [], []
    for maps, view in zip(basis, ICOSAHEDRON, strict=True):
        panorama, weight = fuse_views(maps[None, None], [view], _SOLVED_HEIGHT, fov_deg=patches.fov_deg)
        seen.append(panorama[0].flatten(1))
        weights.append(weight.flatten())
    return torch.stack(seen), torch.stack(weights)
