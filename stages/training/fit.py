"""Fitting a Lightning module: one process or one of many, resumable at any step, with the same weights in the end."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
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
from .checkpoints import Resume, StoredCheckpoints  # noqa: E402
from .watch import Log, Watch, Watching  # noqa: E402


@dataclass(frozen=True)
class Hardware:
    """Where a training runs: `workers` processes of a Ray cluster, each with its CPUs and GPUs.

    Without workers it runs in this process, or in each of those that torchrun has started.
    """

    workers: int = 0  # processes of a Ray cluster; 0: this process, or those of torchrun
    num_cpus: float = 1.0  # of each worker
    num_gpus: int = 0  # of each worker
    max_failures: int = 3  # how often Ray starts the workers again when one has died
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # without a Ray cluster
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"] = "32-true"
    """Lightning's: bf16-mixed for cards of our days; 64-true to compare trainings to the last digits."""
    micro_batch_size: int = 0
    """Images that a rank computes at once, 0 for all of its batch: where memory is short. It costs a forward pass."""

    def __post_init__(self) -> None:
        if min(self.workers, self.num_cpus, self.num_gpus, self.max_failures, self.micro_batch_size) < 0:
            raise ValueError("workers, num_cpus, num_gpus, max_failures and micro_batch_size cannot be negative")
        if self.num_cpus == 0:
            raise ValueError("num_cpus cannot be 0")

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
    """How batches are made from packed shards; one is of all ranks together, so that weights do not depend on them."""

    image_height: int = 512  # pixels; the width is twice that
    batch_size: int = 4  # images of a step, on all ranks together
    num_workers: int = 2  # processes that read and decode, per rank
    augment: float = 1.0  # strength of the augmentation, 0 for none
    seed: int = 0  # of the order and of the augmentation
    mixture: dict[str, float] = field(default_factory=dict)  # weight of each source in a batch; else as often as there
    reader: Literal["indexed", "webdataset"] = "indexed"
    """Random access, or shards streamed from front to back, which does not resume exactly within an epoch."""

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


def fit(
    module: pl.LightningModule,
    data: PanoramaDataModule,
    steps: int,
    hardware: Hardware,
    resume: Resume,
    log: Log,
    distributed: Mapping[str, Any] | None = None,
    *,
    watching: Watching | None = None,
    config: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, float]:
    """Trains up to `steps`, going on from the last checkpoint; returns the validation figures, if there are any.

    Called by every rank. `distributed` is what Lightning's Trainer takes about the ranks; by default it is one process,
    or those of torchrun. `config` is what loggers are told of the settings.
    """
    quiet_lightning()
    if isinstance(data.train, ShardStream):
        rank_zero_only(log)(NOTICE)
    watching = watching or Watching()
    ranks = dict(distributed or {"accelerator": hardware.accelerator, **_local_settings()})
    plugins = [*ranks.pop("plugins", []), StoredCheckpoints(resume)]
    if hardware.precision == "64-true":
        module.double()  # Lightning would after it has loaded a checkpoint
    watch = Watch(data, steps, watching, resume, config, log)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), closing(watch):
        trainer = pl.Trainer(
            max_steps=steps,
            **ranks,
            precision=hardware.precision,
            deterministic="warn",
            use_distributed_sampler=False,  # the data module gives every rank equal batches itself
            num_sanity_val_steps=0,
            limit_val_batches=0,  # `Watch` validates
            logger=watching.make_loggers() or False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch, _Seed(data.seed)],
            default_root_dir=folder,
            plugins=plugins,
        )
        trainer.fit(module, datamodule=data, ckpt_path=resume.fetch(Path(folder)), weights_only=True)
    return {name: round(value, 6) for name, value in watch.figures.items() if name.count("/") == 1}


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
    """Seeds what a network draws in a step by the step alone: on all ranks alike, and again after a resume."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        sequence = np.random.SeedSequence([self._seed, trainer.global_step, 0])
        torch.manual_seed(int(sequence.generate_state(1)[0]))


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
