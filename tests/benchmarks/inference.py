"""The network's forward, against the rate at which this device multiplies large matrices in the same precision."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from dap_engine.models.network.dap import DapModel
from tests.benchmarks import networks
from tests.benchmarks.measure import Result, paired, timed

HEIGHT = 512
BATCH_SIZE = 16 if networks.ON_GPU else 1
SIDE = 8192 if networks.ON_GPU else 2048


def benchmark(repeats: int) -> Iterator[Result]:
    """As it is; on a GPU, also compiled."""
    model = DapModel.new(networks.config(HEIGHT)).eval().requires_grad_(False)
    torch.nn.Module.to(model, networks.DEVICE)  # in place
    pixels = torch.randn((BATCH_SIZE, 3, HEIGHT, 2 * HEIGHT), generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(networks.DEVICE)
    yield _inference("as it is", model, pixels, repeats)
    if networks.ON_GPU:
        yield _inference("compiled", torch.compile(model, fullgraph=True), pixels, repeats)


def _inference(how: str, model: Callable[[torch.Tensor], object], pixels: torch.Tensor, repeats: int) -> Result:
    factor = torch.randn((SIDE, SIDE), device=networks.DEVICE)
    with networks.autocast(), FlopCounterMode(display=False) as flops:
        model(pixels)
    pair = paired(timed(lambda: _predict(model, pixels)), timed(lambda: _multiply(factor)), repeats)
    rate, most = flops.get_total_flops() / pair.work_s, 2 * SIDE**3 / pair.against_s
    return Result(
        f"{networks.NAME} {how}, {HEIGHT}×{2 * HEIGHT}, batch of {BATCH_SIZE}: operations a second",
        f"a product of matrices of {SIDE}×{SIDE}, {'bfloat16' if networks.ON_GPU else 'float32'}",
        f"{rate / most:.2f}",
        "",
        f"{BATCH_SIZE / pair.work_s:.2f} panoramas/s; {rate / 1e12:.3g} of {most / 1e12:.3g} Tflop/s",
    )


def _predict(model: Callable[[torch.Tensor], object], pixels: torch.Tensor) -> None:
    with networks.autocast():
        model(pixels)
    networks.synchronise()


def _multiply(factor: torch.Tensor) -> None:
    with networks.autocast():
        torch.mm(factor, factor)
    networks.synchronise()
