"""A training as settings that pickle, and the barrier around it: it runs here, or on the workers of a Ray cluster."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.records.column import Column, FolderColumn
from ...engine.rundir.receipts import Basis
from ...engine.rundir.rundir import RunDir
from ...engine.steps.assets import Asset, AssetCache, resolve_asset
from ...engine.steps.barrier import Barrier, BarrierContext, BarrierError, Launcher
from ...engine.steps.limits import Pool
from ...engine.storage.hashing import canonical_json
from ...engine.storage.place import Place
from ...engine.storage.storage import Storage
from ..packing.index import read_index
from .resume import CHECKPOINTS, Resume
from .settings import Data, DataConfig, Hardware, Log, Watching, columns_of, packed_at

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from ...models.network.pretrained import StrictPreTrainedModel

LINEAGE = "lineage.json"
LIVE = "training"  # the folder of a model that shows its training


class Training(Barrier):
    """A packed column to `models/<model>`: a Hugging Face folder with lineage.json. A kind says what is trained."""

    model: str
    data: Data
    batches: DataConfig
    hardware: Hardware
    checkpoint_every: int

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """The length of the training."""

    @abstractmethod
    def build(self, assets: Mapping[str, str]) -> tuple[LightningModule, StrictPreTrainedModel]:
        """What Lightning trains, and the network inside it that is kept; assets are local folders or hub ids."""

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(columns_of(self.data))

    @property
    def writes(self) -> Column:
        return FolderColumn("models")

    @property
    def produces(self) -> str:
        return f"models/{self.model}"

    def settings(self) -> dict[str, Any]:
        """Where it runs, how often it is saved and what is seen of it change nothing in the weights' meaning."""
        left_out = ("hardware", "checkpoint_every", *(entry.name for entry in dataclasses.fields(Watching)))
        settings = {name: value for name, value in super().settings().items() if name not in left_out}
        return {**settings, "data": _without_places(self.data)}

    def all_settings(self) -> dict[str, Any]:
        """As `dap train` takes them, as plain values, with defaults."""
        settings = json.loads(canonical_json(dataclasses.asdict(self)))  # pyright: ignore[reportArgumentType]
        return {name: value for name, value in settings.items() if name not in ("model", "data")}

    def workers(self) -> Pool | None:
        return self.hardware.pool if self.hardware.workers else None

    @property
    def watching(self) -> Watching:
        """What is looked at while it runs."""
        names = (entry.name for entry in dataclasses.fields(Watching))
        return Watching(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def check(self) -> None:
        self.watching.check()
        if self.total_steps < 1 or self.checkpoint_every < 1:
            raise ValueError("steps and checkpoint_every must be at least 1")
        self.batches.check(self.hardware.most_ranks)

    def check_data(self, storage: Storage) -> None:
        """ValueError if a packed column is not there, or cannot be mixed or streamed as the settings say."""
        self.batches.module(storage, self.data, self.hardware.most_ranks)

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.model]

    def run(self, context: BarrierContext) -> None:
        try:
            self.check_data(context.run.storage)
        except ValueError as error:
            raise BarrierError(str(error)) from error
        resume = resume_point(context, self.model, self.checkpoint_every)
        task = Task(self, context.run, resolve_assets(context.run, self), resume)
        with context.scratch() as scratch:
            figures = train(task, scratch / "model", context.log, context.launch_ranks)
            write_lineage(scratch / "model", context.basis, figures)
            context.commit(self.model, scratch / "model", task.samples, task.samples)
        resume.forget()


def _without_places(data: Data) -> Data:
    """By the names of columns alone: they are the same wherever they lie."""
    if isinstance(data, str):
        return data
    names = {name: Place.parse(name).name for name in data}
    return {names[name]: data[name] for name in data} if isinstance(data, dict) else list(names.values())


@dataclass(frozen=True)
class Task:
    """A training that every process can build for itself: a few settings and URIs."""

    training: Training
    run: RunDir  # holds the packed columns, and the assets made earlier
    assets: Mapping[str, Asset]
    resume: Resume

    @property
    def samples(self) -> int:
        """How many samples there are to train on."""
        places = (packed_at(self.run.storage, name) for name in columns_of(self.training.data))
        entries = (entry for place in places for entry in read_index(*place))
        return sum(entry["samples"] for entry in entries if entry["split"] == "train")

    def check_resume(self) -> None:
        """BarrierError if the training was begun with another strategy, whose checkpoint is of another kind."""
        resume, strategy = self.resume, self.training.hardware.strategy
        begun_with = "fsdp" if resume.parts else "ddp" if resume.storage.size(resume.path) is not None else strategy
        if begun_with != strategy:
            raise BarrierError(f"this training was begun with hardware.strategy {begun_with}: go on with that")

    def work(self, folder: Path, log: Log, distributed: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Takes part in the training as one rank; rank 0 leaves the trained model in `folder`. Returns the figures."""
        from ...models.training.sharded import whole
        from .fit import fit, rank_zero_only

        training, cache = self.training, AssetCache(self.run)
        try:
            module, network = training.build({name: cache.local(asset) for name, asset in self.assets.items()})
            data = training.batches.module(self.run.storage, training.data)
            steps, hardware = training.total_steps, training.hardware
            show = {"watching": training.watching, "config": training.all_settings()}
            figures = fit(module, data, steps, hardware, self.resume, log, distributed, **show)
        finally:
            cache.clear()
        rank_zero_only(whole(network.eval()).save_pretrained)(folder)
        return figures


def train(task: Task, folder: Path, log: Log, launch_ranks: Launcher) -> dict[str, float]:
    """Trains where the settings log, leaves the model in the local `folder`, and returns the validation figures.

    Raises:
        BarrierError: the loss became no number, or another rank is gone.
    """
    from ...models.training.ranks import is_of_a_lost_peer
    from .fit import rank_zero_only

    task.check_resume()
    try:
        figures = launch_ranks(task, folder, log) if task.training.workers() else task.work(folder, log)
    except FloatingPointError as error:
        raise BarrierError(str(error)) from error
    except RuntimeError as error:
        if not is_of_a_lost_peer(error):
            raise
        silent = f"was silent for {task.training.hardware.timeout_s} s"
        raise BarrierError(f"another rank has ended, or {silent}; the same command resumes") from error
    rank_zero_only(log)(", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or "trained")
    return figures


def resolve_assets(run: RunDir, training: Training) -> dict[str, Asset]:
    """What the training loads besides its data; raises ValueError for what is not there."""
    found = {name: resolve_asset(run, uri) for name, uri in training.assets().items()}
    for name, uri in training.assets().items():
        if found[name] is None:
            raise ValueError(f"{uri}: is not there")
    return {name: asset for name, asset in found.items() if asset}


def resume_point(context: BarrierContext, model: str, every_steps: int) -> Resume:
    """Where a training of the run keeps its state: a changed recipe does not find the state of another."""
    path = f"{CHECKPOINTS}/{model}-{context.basis.fingerprint[:16]}.ckpt"
    return Resume(context.run.storage, path, every_steps, f"models/{model}/{LIVE}")


def write_lineage(folder: Path, basis: Basis, figures: Mapping[str, float]) -> None:
    """Says in a model folder what the weights were made from."""
    lineage = {"fingerprint": basis.fingerprint, **dataclasses.asdict(basis), "validation": dict(figures)}
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=1, sort_keys=True) + "\n")
