"""Fitting a Lightning module: one process or one of many, resumable at any step, with the same weights in the end."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

import lightning.pytorch as pl  # noqa: E402
from lightning.pytorch.utilities import rank_zero_only  # noqa: E402

from ...engine.steps.limits import Pool  # noqa: E402
from ...engine.storage.storage import Storage  # noqa: E402
from ...models.data.loader import PanoramaDataModule  # noqa: E402
from ...models.data.streaming import NOTICE, ShardStream  # noqa: E402
from ..packing.samples import open_samples, stream_samples  # noqa: E402

CHECKPOINTS = "checkpoints"

Log = Callable[[str], None]
"""Takes one line of progress for people."""


@dataclass(frozen=True)
class Hardware:
    """Where a training runs: `workers` processes of a Ray cluster, each with its CPUs and GPUs.

    Without workers it runs in this process, or in each of those that torchrun has started.
    """

    workers: int = 0
    num_cpus: float = 1.0
    num_gpus: int = 0
    max_failures: int = 3  # how often Ray starts the workers again when one has died
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "32-true"

    def __post_init__(self) -> None:
        if self.workers < 0 or self.num_cpus <= 0 or self.num_gpus < 0 or self.max_failures < 0:
            raise ValueError("workers, num_cpus, num_gpus and max_failures cannot be negative, nor num_cpus 0")

    @property
    def pool(self) -> Pool:
        """The workers as the cluster sees them."""
        return Pool(self.num_cpus, self.num_gpus, min_workers=max(self.workers, 1))

    @property
    def ranks(self) -> int:
        """The number of processes that train together."""
        return self.workers or torchrun_settings()["devices"] * torchrun_settings()["num_nodes"]


@dataclass(frozen=True)
class DataConfig:
    """How batches are made from packed shards.

    `batch_size` counts a step's images on all ranks together, so that weights do not depend on where they are trained;
    `num_workers` is the loader's, per rank; `augment` is the strength, 0 for none; `mixture` gives each source its
    weight in every batch, where samples are not to come as often as they are there. The reader `webdataset` streams
    shards from front to back, and does not resume exactly in the middle of an epoch.
    """

    image_height: int = 512
    batch_size: int = 4
    num_workers: int = 2
    augment: float = 1.0
    seed: int = 0
    mixture: dict[str, float] = field(default_factory=dict)
    reader: Literal["indexed", "webdataset"] = "indexed"

    def per_rank(self, ranks: int) -> int:
        """A rank's part of a batch; raises ValueError if the ranks cannot share it evenly."""
        if self.batch_size < 1 or self.batch_size % ranks:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared evenly by {ranks} ranks")
        return self.batch_size // ranks

    def module(self, storage: Storage, column: str, ranks: int = 1) -> PanoramaDataModule:
        """The loaders over a packed column; raises ValueError if it is not packed."""
        opened = stream_samples if self.reader == "webdataset" else open_samples
        train, validation = (opened(storage, column, split) for split in ("train", "val"))
        if isinstance(train, ShardStream):
            train.check_shared(ranks, self.num_workers)
        return PanoramaDataModule(
            train,
            validation,
            image_height=self.image_height,
            batch_size=self.per_rank(ranks),
            num_workers=self.num_workers,
            seed=self.seed,
            augment=self.augment,
            mixture=self.mixture,
        )


@dataclass(frozen=True)
class Resume:
    """Where the state of an unfinished training is kept, and how often. One path for one fingerprint."""

    storage: Storage
    path: str
    every_steps: int

    def fetch(self, folder: Path) -> str | None:
        """A local copy of the last checkpoint, if there is one."""
        if self.storage.size(self.path) is None:
            return None
        local = folder / "resume.ckpt"
        local.write_bytes(self.storage.read_bytes(self.path))
        return str(local)

    def forget(self) -> None:
        """Removes the checkpoint of a training that has come to its end."""
        self.storage.delete(self.path)


def fit(
    module: pl.LightningModule,
    data: PanoramaDataModule,
    steps: int,
    hardware: Hardware,
    resume: Resume,
    log: Log,
    distributed: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Trains up to `steps`, going on from the last checkpoint; returns the validation figures, if there are any.

    Called by every rank. `distributed` is what Lightning's Trainer takes about the ranks; by default it is one process,
    or those of torchrun.
    """
    quiet_lightning()
    if isinstance(data.train, ShardStream):
        rank_zero_only(log)(NOTICE)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        trainer = pl.Trainer(
            max_steps=steps,
            **(distributed or {"accelerator": hardware.accelerator, **_local_settings()}),
            precision=hardware.precision,
            deterministic="warn",
            use_distributed_sampler=False,  # the data module gives every rank equal batches itself
            num_sanity_val_steps=0,
            check_val_every_n_epoch=None,  # validated once, at the end
            val_check_interval=2 * steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Seed(data.seed), _Save(resume, steps), _LogProgress(log, steps)],
            default_root_dir=folder,
        )
        trainer.fit(module, datamodule=data, ckpt_path=resume.fetch(Path(folder)), weights_only=True)
        validate = (
            bool(data.validation.sizes) and module.__class__.validation_step is not pl.LightningModule.validation_step
        )
        figures = trainer.validate(module, datamodule=data, verbose=False)[0] if validate else {}
    return {name: round(float(value), 6) for name, value in figures.items()}


def torchrun_settings() -> dict[str, int]:
    """The processes a node and the nodes that torchrun has started; 1 and 1 without it."""
    if not torch.distributed.is_torchelastic_launched():
        return {"devices": 1, "num_nodes": 1}  # never more: Lightning would run the command line once a device
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": local, "num_nodes": int(os.environ["WORLD_SIZE"]) // local}


def _local_settings() -> dict[str, Any]:
    """Backbones have weights that no depth depends on, such as a mask token: plain DDP waits for their gradients."""
    alone = torchrun_settings() == {"devices": 1, "num_nodes": 1}
    return {"strategy": "auto" if alone else "ddp_find_unused_parameters_true", **torchrun_settings()}


class _Seed(pl.Callback):
    """Seeds what a network draws in a step by the step and the rank alone: a resumed training draws it again."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        sequence = np.random.SeedSequence([self._seed, trainer.global_step, trainer.global_rank])
        torch.manual_seed(int(sequence.generate_state(1)[0]))


class _Save(pl.Callback):
    """Puts a checkpoint into the storage every so often, whole or not at all."""

    def __init__(self, resume: Resume, steps: int) -> None:
        self._resume, self._steps = resume, steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        step = trainer.global_step
        if step % self._resume.every_steps or step == self._steps:
            return
        with self._resume.storage.scratch() as folder:
            trainer.save_checkpoint(folder / "last.ckpt")
            if trainer.is_global_zero:
                self._resume.storage.publish(folder / "last.ckpt", self._resume.path)


class _LogProgress(pl.Callback):
    """A line of progress twenty times over the training."""

    def __init__(self, log: Log, steps: int) -> None:
        self._log, self._steps, self._every = log, steps, max(1, steps // 20)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if trainer.is_global_zero and trainer.global_step % self._every == 0:
            values = {name.split("/")[-1]: float(value) for name, value in trainer.callback_metrics.items()}
            figures = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            self._log(f"step {trainer.global_step}/{self._steps}: {figures}")


def quiet_lightning() -> None:
    """Keeps Lightning's tips and notices, which name no problem, out of the progress."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    of_ranks = (
        ".*sync_dist=True.*",  # metrics are summed over ranks before they are logged
        ".*across ranks is zero.*",  # no validation split
    )
    for message in (
        ".*does not have many workers.*",
        ".*isinstance.treespec.*",
        ".*`val_dataloader`.*",
        *of_ranks,
    ):
        warnings.filterwarnings("ignore", message=message)
