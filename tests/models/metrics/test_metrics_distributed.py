"""Two real processes see the images between them; the figures are those of one, to the last bit."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dap_engine.models.metrics.boundary import BoundaryF1
from dap_engine.models.metrics.depth import DepthMetrics
from dap_engine.models.metrics.ssim import DepthSsim
from dap_engine.models.metrics.surface import NormalsAngle, RangeIoU
from dap_engine.models.metrics.table import ImageMetric

IMAGES = 5


def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    target_m = 0.5 + 80 * torch.rand(IMAGES, 16, 32, generator=generator)
    prediction_m = target_m * torch.exp(0.3 * torch.randn(target_m.shape, generator=generator))
    return prediction_m, target_m, torch.rand(target_m.shape, generator=generator) > 0.2


def metrics() -> list[ImageMetric]:
    return [DepthMetrics("median"), BoundaryF1(), NormalsAngle(), DepthSsim("disparity", "scale-shift")]


def figures(numbers: list[int]) -> list:
    """What comes of some of the images; `RangeIoU` takes other inputs than the rest."""
    prediction_m, target_m, mask = (maps[numbers] for maps in images())
    found = metrics()
    for metric in found:
        if numbers:
            metric.update(prediction_m, target_m, mask)
    overlap = RangeIoU()
    if numbers:
        overlap.update((prediction_m > 40).float(), target_m.where(target_m < 40, torch.inf))
    return [metric.compute() for metric in (*found, overlap)]


def _rank(rank: int, shares: list[list[int]], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(shares))
    torch.save(figures(shares[rank]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="gloo over a file")
@pytest.mark.parametrize("shares", [[[4, 0, 2], [1, 3]], [[], [3, 1, 4, 0, 2]]], ids=["uneven", "one idle"])
def test_two_ranks_agree_with_one(shares, tmp_path: Path):
    mp.start_processes(_rank, (shares, str(tmp_path)), nprocs=2, start_method="fork")  # which imports nothing anew
    alone = figures(list(range(IMAGES)))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == alone
