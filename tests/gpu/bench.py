"""What the sections share: the device, the sizes, timing, and a clean slate for every measurement."""

import gc
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dap_engine.models.data.pixel_values import pixel_values
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.training.modules import DapTraining
from dap_engine.models.training.speed import blocks, compile_blocks
from tests.gpu.report import Figure, Measurement
from tests.gpu.rooms import Room, rooms
from tests.gpu.sizes import Sizes

OUT_OF_MEMORY = "out of memory"


@dataclass
class Bench:
    """One device, and the sizes of everything that is measured on it; `folder` is for temporary files."""

    device: torch.device
    sizes: Sizes
    folder: Path
    _forward_flops: dict[str, float] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def rooms(self) -> list[Room]:
        """Panoramas with depth, all different."""
        return rooms(self.sizes.rooms, self.sizes.height)

    @cached_property
    def dense_flops(self) -> float:
        """Operations a second of a product of large random matrices in bfloat16."""
        side = self.sizes.matrix_side
        a, b = (torch.randn((side, side), device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * side**3 / self.seconds(lambda: a @ b, warm_ups=5)

    @cached_property
    def depth_folder(self) -> Path:
        """The depth model, saved."""
        folder = self.folder / "depth"
        self.depth_model().save_pretrained(folder)
        return folder

    def depth_model(self, config: DapConfig | None = None) -> DapModel:
        """A depth model of random weights, on the device; by default of the size that is published."""
        with self.device:
            return DapModel.new(config or self.sizes.depth())

    def pixels(self, count: int) -> Tensor:
        """Pixel values (count, 3, H, W) on the device."""
        return pixel_values([room.rgb for room in self.repeated(count)]).to(self.device)

    def repeated(self, count: int) -> list[Room]:
        return [self.rooms[number % len(self.rooms)] for number in range(count)]

    def forward_flops(self, model: nn.Module) -> float:
        """Operations of a forward pass of one panorama."""
        key = str(sum(parameter.numel() for parameter in model.parameters()))
        if key not in self._forward_flops:
            with torch.no_grad(), self.autocast(), FlopCounterMode(display=False) as flops:
                model(self.pixels(1))
            self._forward_flops[key] = flops.get_total_flops()
        return self._forward_flops[key]

    def autocast(self) -> torch.autocast:
        """bfloat16 on a GPU, as the project computes there."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu)

    def synchronise(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], *, warm_ups: int = 2) -> float:
        """Seconds of a call: the mean over as many as take `sizes.measure_s`, all work on the device done."""
        for _ in range(warm_ups):
            work()
        once = self.elapsed(work)
        calls = max(1, min(100, int(self.sizes.measure_s / once)))
        return self.elapsed(lambda: [work() for _ in range(calls)]) / calls

    def elapsed(self, work: Callable[[], Any]) -> float:
        """Seconds of one call, with what it leaves the device to do."""
        self.synchronise()
        started = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - started

    def peak_gib(self) -> float | None:
        """Most memory of the device that tensors took since `clear`."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else None

    def clear(self) -> None:
        """Frees what is no longer used, and forgets the peak."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def measured(self, what: str, work: Callable[[], Mapping[str, Figure]]) -> Measurement:
        """The figures of one measurement; if it raises, the error instead, so that the next ones are still made."""
        self.clear()
        try:
            return Measurement(what, work())
        except torch.OutOfMemoryError:
            return Measurement(what, {"not measured": OUT_OF_MEMORY})
        except Exception as error:  # noqa: BLE001 - whatever it is, the next measurement may work
            text = f"{type(error).__name__}: {str(error)[:500]}"
            return Measurement(what, {"error": text, "traceback": traceback.format_exc()[-3000:]})

    @contextmanager
    def compiled_blocks(self, model: DapModel) -> Iterator[DapModel]:
        """Inside, every block of the backbone and each head is compiled: once for all blocks, which are alike."""
        torch._dynamo.reset()
        compile_blocks(model, self.sizes.compiler)
        try:
            yield model
        finally:
            for block in blocks(model):
                block._compiled_call_impl = None
            torch._dynamo.reset()


def of_training(module: DapTraining) -> Callable[[Mapping[str, Any]], Tensor]:
    """A whole step on a batch, as Lightning takes it: losses, gradients, clipping, optimizer."""
    optimizer = module.configure_optimizers()["optimizer"]

    def step(batch: Mapping[str, Any]) -> Tensor:
        device = batch["pixel_values"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = module.training_step(dict(batch), 0)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), module.settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
