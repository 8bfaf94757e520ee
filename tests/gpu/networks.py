"""The device's own rate, and the bare forward pass of the depth network."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from dap_engine.models.network.dap import DapModel
from tests.gpu.bench import Bench
from tests.gpu.report import Figure, Measurement


def dense(bench: Bench) -> Iterator[Measurement]:
    """What all shares of the card's rate are shares of."""
    side = bench.sizes.matrix_side
    yield bench.measured(
        f"product of random matrices of {side}×{side}, bfloat16", lambda: {"Tflop/s": bench.dense_flops / 1e12}
    )


def forward(bench: Bench) -> Iterator[Measurement]:
    """As it is, block by block compiled, and with weights in bfloat16 instead of autocast."""
    name, model = bench.sizes.names[0], bench.depth_model().eval().requires_grad_(False)
    for batch in bench.sizes.batches:
        yield bench.measured(f"{name}, batch of {batch}", lambda batch=batch: _rate(bench, model, batch))
    with bench.compiled_blocks(model):
        for batch in bench.sizes.batches:
            what = f"{name}, batch of {batch}, blocks compiled"
            yield bench.measured(what, lambda batch=batch: _compiled_rate(bench, model, batch))
    nn.Module.to(model, torch.bfloat16)
    batch = bench.sizes.batch
    yield bench.measured(
        f"{name}, batch of {batch}, weights in bfloat16", lambda: _rate(bench, model, batch, torch.bfloat16)
    )


def forward_compiled_whole(bench: Bench) -> Iterator[Measurement]:
    """The whole network as one graph: most to compile."""
    name, model, batch = bench.sizes.names[0], bench.depth_model().eval().requires_grad_(False), bench.sizes.batch
    torch._dynamo.reset()
    whole = torch.compile(model, fullgraph=True, dynamic=False, backend=bench.sizes.compiler)
    yield bench.measured(
        f"{name}, batch of {batch}, compiled whole", lambda: _compiled_rate(bench, whole, batch, counted=model)
    )
    torch._dynamo.reset()


def _rate(
    bench: Bench, model: nn.Module, batch: int, dtype: torch.dtype = torch.float32, counted: DapModel | None = None
) -> Mapping[str, Figure]:
    pixels = bench.pixels(batch).to(dtype)
    flops = bench.forward_flops(counted or model) if dtype == torch.float32 else None
    bench.clear()

    @torch.inference_mode()
    def work() -> None:
        with bench.autocast():
            model(pixels)

    seconds = bench.seconds(work)
    share = flops and flops * batch / seconds / bench.dense_flops
    return {
        "panoramas/s": batch / seconds,
        "ms": 1000 * seconds,
        "of the dense rate": share,
        "GiB at most": bench.peak_gib(),
    }


def _compiled_rate(bench: Bench, model: nn.Module, batch: int, counted: DapModel | None = None) -> Mapping[str, Figure]:
    pixels = bench.pixels(batch)

    @torch.inference_mode()
    def first() -> None:
        with bench.autocast():
            model(pixels)

    compile_s = bench.elapsed(first)
    return {**_rate(bench, model, batch, counted=counted), "s to compile": compile_s}
