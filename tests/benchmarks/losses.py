"""The losses of a training step, against the network's forward and backward."""

from collections.abc import Iterator
from dataclasses import fields

import torch

from dap_engine.models.losses.objective import Target, dap_loss
from dap_engine.models.losses.weights import PUBLISHED, LossWeights
from dap_engine.models.network.dap import DapModel
from tests.benchmarks import networks
from tests.benchmarks.measure import Result, paired, timed

HEIGHT, BATCH_SIZE = 512, 1

SETS = {
    "SILog and range mask": LossWeights(),
    "the paper's six losses": PUBLISHED,
    "all losses there are": LossWeights(**{field.name: 1.0 for field in fields(LossWeights)}),
}


def benchmark(repeats: int) -> Iterator[Result]:
    """One step; the losses start from ready predictions and go back to them."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH_SIZE, HEIGHT, 2 * HEIGHT)
    depth_m, predicted_m, chance = (torch.rand(shape, generator=generator).to(networks.DEVICE) for _ in range(3))
    target = Target(1 + 50 * depth_m, chance < 0.8, chance > 0.9)
    model = DapModel.new(networks.config(HEIGHT)).train()
    torch.nn.Module.to(model, networks.DEVICE)  # in place
    pixels = torch.randn((BATCH_SIZE, 3, *shape[1:]), generator=generator).to(networks.DEVICE)
    network = timed(lambda: _network(model, pixels))
    for name, weights in SETS.items():
        pair = paired(timed(lambda weights=weights: _losses(predicted_m, target, weights)), network, repeats)
        yield Result(
            f"{name}, forward + backward, {HEIGHT}×{2 * HEIGHT}, batch of {BATCH_SIZE}",
            f"forward + backward of the {networks.NAME} model, {torch.get_num_threads()} threads",
            f"{100 / pair.rate:.2g} %",
            "≤ 10 %" if networks.ON_GPU else "≤ 25 %",
            f"{1000 * pair.work_s:.1f} ms against {1000 * pair.against_s:.0f} ms",
        )


def _losses(predicted_m: torch.Tensor, target: Target, weights: LossWeights) -> None:
    depth_m = (1 + 50 * predicted_m).requires_grad_()
    beyond_range = torch.full_like(target.depth_m, 0.1, requires_grad=True)
    dap_loss(depth_m, beyond_range, target, weights=weights)["total"].backward()
    networks.synchronise()


def _network(model: DapModel, pixels: torch.Tensor) -> None:
    with networks.autocast():
        output = model(pixels)
    (output.predicted_depth.mean() + output.beyond_range.mean()).backward()
    networks.synchronise()
