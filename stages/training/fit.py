"""Fitting a Lightning module: one process or one of many, resumable at any step, with the same weights in the end."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

import lightning.pytorch as pl  # noqa: E402
from lightning.pytorch.plugins import DoublePrecision  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy  # noqa: E402
from lightning.pytorch.utilities import rank_zero_only  # noqa: E402

from ...models.data.loader import PanoramaDataModule  # noqa: E402
from ...models.data.streaming import NOTICE, ShardStream  # noqa: E402
from .checkpoints import StoredCheckpoints  # noqa: E402
from .resume import Resume  # noqa: E402
from .settings import Hardware, Log, Watching, torchrun_settings  # noqa: E402
from .sharding import ShardedStrategy  # noqa: E402
from .watch import Watch  # noqa: E402


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
    ranks = dict(distributed or {"accelerator": hardware.accelerator, **_local_settings(hardware, resume)})
    plugins, is_sharded = [*ranks.pop("plugins", [])], hardware.strategy == "fsdp"
    if hardware.precision == "64-true":
        module.double()  # Lightning would after it has loaded a checkpoint
        plugins.append(DoublePrecision())  # which Lightning takes so with any strategy
    else:
        ranks["precision"] = hardware.precision
    if not is_sharded:
        plugins.append(StoredCheckpoints(resume))
    watch = Watch(data, steps, watching, resume, config, log)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), closing(watch):
        trainer = pl.Trainer(
            max_steps=steps,
            **ranks,
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
        last = resume.parts if is_sharded else resume.fetch(Path(folder))
        try:
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):  # which Lightning answers with sys.exit
                raise KeyboardInterrupt from ended
            raise
    return {name: round(value, 6) for name, value in watch.figures.items() if name.count("/") == 1}


def _local_settings(hardware: Hardware, resume: Resume) -> dict[str, Any]:
    """Backbones have weights that no depth depends on, such as a mask token: plain DDP waits for their gradients."""
    placed = torchrun_settings()
    ranks = placed["devices"] * placed["num_nodes"]
    strategy = DDPStrategy(find_unused_parameters=True, timeout=hardware.timeout) if ranks > 1 else "auto"
    if hardware.strategy == "fsdp":
        strategy = ShardedStrategy(resume, ranks, hardware.timeout)
    return {"strategy": strategy, **placed}


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
        ".*`srun` command is available.*",  # ranks are started by torchrun or Ray
        ".*returned a view tensor.*",  # of a block under FSDP2, which nothing here changes in place
        ".*smaller than the logging interval.*",  # every step is shown
        *of_ranks,
    ):
        warnings.filterwarnings("ignore", message=message)
