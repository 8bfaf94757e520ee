"""The 12 icosahedron patches of a batch, against py360convert's of the same panoramas."""

from collections.abc import Iterator

import numpy as np
import py360convert
import torch

from dap_engine.models.geometry.patches import ICOSAHEDRON, perspective_views
from tests.benchmarks import networks
from tests.benchmarks.measure import Result, paired, timed

HEIGHT, BATCH_SIZE, FOV_DEG = 512, 4, 90


def benchmark(repeats: int) -> Iterator[Result]:
    """Depth in the two sizes of patches that matter to the dense fidelity loss, and colour.

    py360convert takes one image and one view at a time. It keeps the positions of its last 8 views: image after image,
    12 views never find theirs; view after view, all images but the first do, which is the second way measured.
    """
    for channels, size, target in ((1, 256, "≥ 20"), (1, 128, "≥ 20"), (3, 256, "")):
        panoramas = torch.rand((BATCH_SIZE, channels, HEIGHT, 2 * HEIGHT), generator=torch.Generator().manual_seed(0))
        yield _patches(panoramas, size, target, repeats, view_after_view=False)
        yield _patches(panoramas, size, "", repeats, view_after_view=True)


def _patches(panoramas: torch.Tensor, size: int, target: str, repeats: int, *, view_after_view: bool) -> Result:
    images = [np.ascontiguousarray(panorama.permute(1, 2, 0).numpy()).squeeze() for panorama in panoramas]
    on_device = panoramas.to(networks.DEVICE)
    pair = paired(timed(lambda: _ours(on_device, size)), timed(lambda: _theirs(images, size, view_after_view)), repeats)
    order = "view after view, with its cache" if view_after_view else "image after image"
    channels = panoramas.shape[1]
    return Result(
        f"{len(ICOSAHEDRON)} patches of {size}×{size}, {BATCH_SIZE} panoramas of {HEIGHT}×{2 * HEIGHT}×{channels}",
        f"py360convert.e2p, {order}; {torch.get_num_threads()} threads",
        f"{pair.rate:.1f}",
        target,
        f"{1000 * pair.work_s:.1f} ms against {1000 * pair.against_s:.0f} ms",
    )


def _ours(panoramas: torch.Tensor, size: int) -> None:
    perspective_views(panoramas, ICOSAHEDRON, (size, size), fov_deg=FOV_DEG)
    networks.synchronise()


def _theirs(images: list[np.ndarray], size: int, view_after_view: bool) -> None:
    pairs = [(image, view) for image in images for view in ICOSAHEDRON]
    if view_after_view:
        pairs = [(image, view) for view in ICOSAHEDRON for image in images]
    np.stack([py360convert.e2p(image, FOV_DEG, -view.yaw_deg, view.pitch_deg, (size, size)) for image, view in pairs])
