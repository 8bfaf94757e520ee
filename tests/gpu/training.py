"""A training step of the depth network: its parts, its rate, and how much of it waits for the loader."""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from dap_engine.models.data.augment import draw
from dap_engine.models.data.decoding import Decoded
from dap_engine.models.data.depth_png import decode_units
from dap_engine.models.data.loader import PanoramaLoader, finish
from dap_engine.models.data.shards import Facts
from dap_engine.models.losses.objective import Target, dap_loss
from dap_engine.models.losses.weights import PUBLISHED, LossWeights
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.training.modules import DapTraining
from dap_engine.models.training.settings import TrainSettings
from dap_engine.models.training.speed import checkpoint_gradients
from dap_engine.stages.training.settings import DataConfig
from tests.gpu.bench import OUT_OF_MEMORY, Bench, of_training
from tests.gpu.report import Figure, Measurement
from tests.gpu.rooms import packed_rooms

ALL_LOSSES = LossWeights(**{field.name: 1.0 for field in fields(LossWeights)})
SETTINGS = TrainSettings(steps=1000, losses=ALL_LOSSES)


def losses(bench: Bench) -> Iterator[Measurement]:
    """Augmentation and losses of a step, against forward and backward of the network."""
    name, batch = bench.sizes.names[0], bench.sizes.batch
    model, data = bench.depth_model().train(), _batch(bench, batch)
    network_s = 0.0

    def network() -> Mapping[str, Figure]:
        nonlocal network_s
        network_s = bench.seconds(lambda: _forward_backward(bench, model, data))
        return {"ms": 1000 * network_s}

    yield bench.measured(f"{name}, forward and backward, batch of {batch}", network)
    for what, weights in {"all losses": ALL_LOSSES, "the published losses": PUBLISHED}.items():

        def work(weights: LossWeights = weights) -> Mapping[str, Figure]:
            seconds = bench.seconds(lambda: _loss(data, weights))
            return {"ms": 1000 * seconds, "of forward and backward": network_s and seconds / network_s}

        yield bench.measured(f"{what}, forward and backward, batch of {batch}", work)
    yield bench.measured(f"augmentation, batch of {batch}", lambda: _augmentation(bench, network_s))


def _forward_backward(bench: Bench, model: DapModel, data: Mapping[str, Any]) -> None:
    with bench.autocast():
        output = model(data["pixel_values"])
    (output.predicted_depth.mean() + output.beyond_range.mean()).backward()
    model.zero_grad()


def _loss(data: Mapping[str, Any], weights: LossWeights) -> None:
    depth_m = (data["depth_m"] * 1.1 + 1).requires_grad_()
    beyond_range = torch.full_like(depth_m, 0.1, requires_grad=True)
    target = Target(data["depth_m"], data["valid"], data["beyond_range"])
    dap_loss(depth_m, beyond_range, target, weights=weights)["total"].backward()


def _augmentation(bench: Bench, network_s: float) -> Mapping[str, Figure]:
    """From decoded pixels in the host's memory to what the network takes."""
    size = bench.sizes.batch
    drawn = np.array([draw(1.0, bench.sizes.height, np.random.default_rng(seed)) for seed in range(size)])
    decoded = replace(_decoded(bench, size), drawn=drawn)
    seconds = bench.seconds(lambda: finish(decoded, bench.device))
    return {"ms": 1000 * seconds, "of forward and backward": network_s and seconds / network_s}


def steps(bench: Bench) -> Iterator[Measurement]:
    """Whole steps at growing batches, until memory ends; MFU counts three forward passes, however often they ran."""
    growing = bench.sizes.train_batches
    for compiled, checkpointed, batches in (
        (False, False, growing),
        (False, True, growing[-2:]),
        (True, False, growing[-2:-1]),
        (True, True, growing[-2:-1]),
    ):
        bench.clear()
        model = bench.depth_model()
        if checkpointed:
            checkpoint_gradients(model)
        with bench.compiled_blocks(model) if compiled else nullcontext(model):
            module = DapTraining(model, SETTINGS).to(bench.device)
            how = f"{', blocks compiled' if compiled else ''}{', checkpointed' if checkpointed else ''}"
            for batch in batches:
                measurement = bench.measured(
                    f"{bench.sizes.names[0]}, all losses, batch of {batch}{how}",
                    lambda module=module, batch=batch: _step(bench, module, batch),
                )
                yield measurement
                if measurement.figures.get("not measured") == OUT_OF_MEMORY:
                    break


def _step(bench: Bench, module: DapTraining, batch: int) -> Mapping[str, Figure]:
    data, step = _batch(bench, batch), of_training(module)
    flops = 3 * bench.forward_flops(module.model)
    bench.clear()
    try:
        first_s = bench.elapsed(lambda: step(data))
        seconds = bench.seconds(lambda: step(data))
    finally:
        module.zero_grad()
    return {
        "samples/s": batch / seconds,
        "ms a step": 1000 * seconds,
        "MFU": flops * batch / seconds / bench.dense_flops,
        "GiB at most": bench.peak_gib(),
        "s for the first step": first_s,
    }


def _batch(bench: Bench, size: int) -> dict[str, Any]:
    return finish(_decoded(bench, size), bench.device)


def _decoded(bench: Bench, size: int) -> Decoded:
    rooms = bench.repeated(size)
    rgb = torch.from_numpy(np.stack([room.rgb for room in rooms]))
    units = torch.from_numpy(np.stack([decode_units(room.depth_png) for room in rooms]).view(np.int16))
    return Decoded(
        facts=[Facts(f"room-{number}", "labelled", "indoor", None) for number in range(size)],
        present=[True] * size,
        damaged=[],
        rgb=rgb,
        units=units,
        drawn=None,
    )


def loader(bench: Bench) -> Iterator[Measurement]:
    """A training on packed shards: how long each step waits for its batch; and the loader with nothing behind it."""
    sizes = bench.sizes
    run, column = packed_rooms(bench.folder / "run", sizes.packed, sizes.height, sizes.rooms)
    settings = DataConfig(image_height=sizes.height, batch_size=sizes.batch, num_workers=sizes.loader_workers)
    data = settings.module(run.storage, column)
    how = f"batches of {sizes.batch}, augmentation on, {sizes.loader_workers} workers"
    yield bench.measured(
        f"the loader alone, {how}", lambda: _drain(bench, data.loader(training=True, device=bench.device))
    )
    for name, config in zip(sizes.names, (sizes.depth(), sizes.small()), strict=True):
        yield bench.measured(
            f"training of {name}, all losses, {how}",
            lambda config=config: _train(bench, data.loader(training=True, device=bench.device), config),
        )


def _drain(bench: Bench, loader: PanoramaLoader) -> Mapping[str, Figure]:
    batches = _epochs(loader)
    started = time.perf_counter()
    next(batches)
    first_s = time.perf_counter() - started
    count = bench.sizes.loader_steps
    seconds = bench.elapsed(lambda: [next(batches) for _ in range(count)])
    return {"samples/s": count * bench.sizes.batch / seconds, "s until the first batch": first_s}


def _train(bench: Bench, loader: PanoramaLoader, config: DapConfig) -> Mapping[str, Figure]:
    module = DapTraining(bench.depth_model(config), SETTINGS).to(bench.device)
    step, batches, waited_s = of_training(module), _epochs(loader), 0.0
    for _ in range(2):
        step(next(batches))
    bench.synchronise()
    started = time.perf_counter()
    for _ in range(bench.sizes.loader_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited_s += time.perf_counter() - asked
        step(batch)
        bench.synchronise()
    seconds = time.perf_counter() - started
    return {
        "of the time waiting": waited_s / seconds,
        "samples/s": bench.sizes.loader_steps * bench.sizes.batch / seconds,
        "ms a step": 1000 * seconds / bench.sizes.loader_steps,
        "steps": bench.sizes.loader_steps,
    }


def _epochs(loader: PanoramaLoader) -> Iterator[dict[str, Any]]:
    while True:
        yield from loader
