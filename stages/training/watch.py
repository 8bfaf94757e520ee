"""What people see of a training while it runs: lines, a bar, figures for loggers, validations, pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import psutil
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.flop_counter import FlopCounterMode

from ...engine.meters import measure
from ...engine.quantities import duration
from ...models.data.loader import PanoramaDataModule
from ...models.data.pixel_values import IMAGENET_MEAN, IMAGENET_STD
from ...models.drawing.training import training_jpeg
from ...models.support.torchvision_ops import register_missing_operators
from ...models.training.ranks import of_all_ranks, sum_over_ranks
from ...models.training.sharded import whole
from .cards import FORWARDS, PEAK_FLOPS
from .live import LiveFolder
from .resume import Resume
from .settings import Log, Watching

register_missing_operators()  # before lightning, which imports torchvision where it is installed

import lightning.pytorch as pl  # noqa: E402

EXAMPLES = 4
NO_NUMBER = "no_number.jsonl"  # a line for each batch whose loss was none
LINE_EVERY_S = 10.0
LINES = 20  # at least, over a training


class Watch(pl.Callback):
    """Measures every step, validates and saves; the figures of the last validation, on all samples, stay here."""

    def __init__(
        self,
        data: PanoramaDataModule,
        steps: int,
        watching: Watching,
        resume: Resume,
        config: Mapping[str, Any],
        log: Log,
    ) -> None:
        self._data, self._steps, self._watching, self._resume, self._log = data, steps, watching, resume, log
        self._config = config
        self._every = watching.validate_every or -(-steps // 4)
        self._live: LiveFolder | None = None
        self._bar: Progress | None = None
        self._loggers: list[Any] = []
        self._learning_rates: dict[str, float] = {}
        self._mark_s = time.perf_counter()
        self._waited_s = self._flops = self._damaged = 0.0
        self._since = (0, 0.0, time.perf_counter())  # of the last line: step, time waited, time
        self.figures: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        step, batch_size, ranks = trainer.global_step, self._data.batch_size, trainer.world_size
        if len(set(of_all_ranks([step]))) > 1:
            raise ConnectionError("the ranks have read different checkpoints: another training writes there")
        self._mark_s, self._since = time.perf_counter(), (step, 0.0, time.perf_counter())
        if not trainer.is_global_zero:
            return
        if empty := -batch_size % ranks:
            places = f"{empty} of {batch_size + empty} places stay empty"
            self._log(f"{ranks} ranks share batches of {batch_size} unevenly: {places}")
        if self._resume.live:
            self._live = LiveFolder(self._resume.storage, self._resume.live, step)
            self._live.write("config.yaml", yaml.safe_dump(dict(self._config), sort_keys=False).encode())
        self._loggers = list(trainer.loggers)
        for logger in self._loggers:
            self._try(logger, lambda logger=logger: logger.log_hyperparams(dict(self._config)))
        if sys.stderr.isatty():
            left, right = (BarColumn(), MofNCompleteColumn()), (TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Progress(*left, TextColumn("{task.description}"), *right, console=Console(stderr=True))
            self._bar.add_task("", total=self._steps, completed=step)
            self._bar.start()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        self._waited_s += time.perf_counter() - self._mark_s
        if not self._flops and _peak_flops(trainer):
            self._flops = _step_flops(pl_module, batch["pixel_values"])

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self._learning_rates = {f"lr/{group.get('name', 'all')}": group["lr"] for group in optimizer.param_groups}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """A checkpoint comes after all that is written down of the steps that it stands for."""
        step, now_s = trainer.global_step, time.perf_counter()
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()} | self._learning_rates
        if (norm := getattr(pl_module, "grad_norm", None)) is not None:
            figures["grad_norm"] = float(norm)
        figures["damaged"] = self._note_damaged(batch)
        self._note_no_number(pl_module)
        self._add(figures | self._rates(trainer, step, now_s), step)
        if step % self._every == 0 or step == self._steps:
            self._validate(trainer, pl_module, self._watching.validate_samples if step < self._steps else 0)
            since_step, since_waited_s, since_s = self._since
            self._since = (since_step, since_waited_s, since_s + time.perf_counter() - now_s)  # no part of the speed
        if step < self._steps and step % self._resume.every_steps == 0:
            if self._live:
                self._live.flush()
                self._live.upload()
            trainer.save_checkpoint(self._resume.path)
        if trainer.is_global_zero:
            self._show(trainer, step, time.perf_counter(), figures)
        self._mark_s = time.perf_counter()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._note_no_number(pl_module)

    def close(self) -> None:
        """Ends what is shown, however the training ended."""
        if self._bar:
            self._bar.stop()
        if self._live:
            self._live.close()

    def _rates(self, trainer: pl.Trainer, step: int, now_s: float) -> dict[str, float]:
        """Speeds since the last line, and memory."""
        steps, elapsed_s = step - self._since[0], max(now_s - self._since[2], 1e-9)
        samples_per_s = steps * self._data.batch_size / elapsed_s
        rates = {"samples_per_s": samples_per_s, "waiting": (self._waited_s - self._since[1]) / elapsed_s}
        if self._flops:
            rates["mfu"] = self._flops * steps / elapsed_s / _peak_flops(trainer)
        return rates | {"memory_gib": _memory_bytes(trainer) / 2**30}

    def _show(self, trainer: pl.Trainer, step: int, now_s: float, figures: Mapping[str, float]) -> None:
        """On a terminal a bar; a line some seconds after the last, and at every twentieth of the training."""
        prefix = "train/"
        losses = [f"{name[len(prefix) :]} {value:.3f}" for name, value in figures.items() if name.startswith(prefix)]
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=step, description=losses[-1] if losses else "")
        if step % max(1, self._steps // LINES) and now_s - self._since[2] < LINE_EVERY_S:
            return
        rates = self._rates(trainer, step, now_s)
        rest = [f"{name} {value:.2g}" for name, value in figures.items() if not name.startswith(prefix)]
        speed = [f"{rates['samples_per_s']:.3g} samples/s", f"waiting {rates['waiting']:.0%}"]
        speed += [f"MFU {rates['mfu']:.0%}"] if "mfu" in rates else []
        left_s = (self._steps - step) * (now_s - self._since[2]) / max(step - self._since[0], 1)
        speed += [f"{rates['memory_gib']:.1f} GiB", f"{duration(left_s)} left"]
        self._log(f"step {step}/{self._steps}: {', '.join([*losses, *rest, *speed])}")
        self._since = (step, self._waited_s, now_s)
        if self._live:
            self._live.flush()

    def _note_no_number(self, module: pl.LightningModule) -> None:
        if (found := getattr(module, "no_number", None)) and self._live:
            self._live.append(NO_NUMBER, found)
            self._log(f"the loss of step {found['step']} is no number; {self._resume.live}/{NO_NUMBER} names its batch")

    def _say_damaged(self, damaged: Sequence[str]) -> None:
        for what in damaged:
            self._log(f"{what}; an empty picture takes its place, which counts for nothing")

    def _note_damaged(self, batch: Mapping[str, Any]) -> float:
        """Says what could not be decoded, and counts it over all ranks; FloatingPointError if nothing could be."""
        self._say_damaged(batch["damaged"])
        counts = torch.stack([torch.tensor(len(batch["damaged"])).to(batch["present"].device), batch["present"].sum()])
        damaged, present = sum_over_ranks(counts).tolist()
        if not present:
            raise FloatingPointError(f"no sample of a batch could be decoded: {' '.join(batch['damaged'][:1])}")
        self._damaged += damaged
        return self._damaged

    def _add(self, figures: Mapping[str, float], step: int) -> None:
        if self._live:
            self._live.add(figures, step)
            model = PurePath(self._resume.storage.address(self._resume.live)).parent.name
            measure("dap_training_step", step, model=model)
            for name, value in figures.items():
                measure("dap_training", value, model=model, figure=name)
        for logger in self._loggers:
            self._try(logger, lambda logger=logger: logger.log_metrics(dict(figures), step))

    def _try(self, logger: Any, call: Callable[[], object]) -> None:
        """A logger that fails is left out from there on: it is no reason to stop."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever others' code raises
            self._loggers = [other for other in self._loggers if other is not logger]
            self._log(f"{type(logger).__name__} failed, the training goes on without it: {error}")

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")  # else other sizes of batches would be compiled, too
    def _validate(self, trainer: pl.Trainer, module: Any, limit: int) -> None:
        if type(module).validation_step is pl.LightningModule.validation_step:
            return
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        convert = trainer.precision_plugin.convert_input
        with trainer.precision_plugin.val_step_context():
            for number, batch in enumerate(self._data.validation_batches(limit)):
                self._say_damaged(batch["damaged"])
                module.validation_step(convert(batch), number)
            try:
                figures = module.validation.compute()
            except FloatingPointError as error:
                if trainer.global_step == self._steps:
                    raise
                figures = None
                self._log(f"validation at step {trainer.global_step}/{self._steps}: {error}")
            if figures is not None and self._resume.live:
                picture = self._picture(module, convert)  # by all ranks: each may hold a part of the network
                if self._live:
                    self._live.write(f"images/step-{trainer.global_step:06d}.jpg", picture)
        if figures:
            network = whole(module.network)
            if trainer.is_global_zero:
                self._add(figures, trainer.global_step)
                self._note(network, trainer.global_step, figures)
        for part, mode in modes:
            part.training = mode
        self.figures = figures or {}

    def _note(self, network: Any, step: int, figures: Mapping[str, float]) -> None:
        main = {name: value for name, value in figures.items() if name.count("/") == 1}
        if step < self._steps:
            values = ", ".join(f"{name.split('/')[-1]} {value:.4f}" for name, value in main.items())
            self._log(f"validation at step {step}/{self._steps}: {values}")
        if self._live and self._watching.keep:
            by = f"validation/{self._watching.best_by}"
            self._live.keep_best(network.save_pretrained, step, figures, by, self._watching.keep)

    def _picture(self, module: Any, convert: Callable[[Any], Any]) -> bytes:
        rows = []
        for batch in map(convert, self._data.examples(EXAMPLES)):
            output = module.network(batch["pixel_values"])
            pixels = batch["pixel_values"][0].permute(1, 2, 0).float().cpu().numpy()
            rgb = ((pixels * IMAGENET_STD + IMAGENET_MEAN).clip(0, 1) * 255).round().astype("uint8")
            truth_m = batch["depth_m"].where(batch["valid"], torch.nan).where(~batch["beyond_range"], torch.inf)
            maps = (truth_m, output.predicted_depth, output.beyond_range)
            rows.append((rgb, *(maps_[0].float().cpu().numpy() for maps_ in maps)))
        return training_jpeg(rows)


def _peak_flops(trainer: pl.Trainer) -> float:
    """What the card can do in 16 bits, where that is used and known; else 0."""
    device = trainer.strategy.root_device
    if device.type != "cuda" or "16" not in str(trainer.precision):
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), 0.0)


@torch.no_grad()
@torch.compiler.set_stance("force_eager")  # what is compiled is not counted
def _step_flops(module: Any, pixel_values: torch.Tensor) -> float:
    """Operations of a training step on a rank's batch; 0 of a module that is more than one network."""
    if not hasattr(module, "model"):
        return 0.0
    with FlopCounterMode(display=False) as counter:
        module.model(pixel_values[:1])
    return float(FORWARDS * counter.get_total_flops() * len(pixel_values))


def _memory_bytes(trainer: pl.Trainer) -> int:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
