"""Where a training runs, what it learns from, and what is seen of it, as recipes set them."""

# No `annotations` of `__future__` here: to read settings, text would be evaluated with all that TYPE_CHECKING names.

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from ...engine.steps.limits import Pool
from ...engine.storage.place import Place, is_uri
from ...engine.storage.storage import Storage
from ...models.data.augment_settings import SourceAugment
from ...models.training.settings import Figure

if TYPE_CHECKING:
    from ...models.data.loader import PanoramaDataModule

Log = Callable[[str], None]
"""Takes one line of progress for people."""

Data = str | list[str] | dict[str, float]
"""A packed column, several as they are, or several with the weight of each in a batch."""


@dataclass(frozen=True)
class Between:
    """As many workers as the cluster has room for."""

    min: int
    max: int


@dataclass(frozen=True)
class Hardware:
    """Where a training runs: `workers` processes of a Ray cluster, each with its CPUs and GPUs.

    Without workers it runs in this process, or in each of those that torchrun has started.
    """

    workers: int | Between = 0
    """Processes of a Ray cluster; 0: this process, or those of torchrun. {min: 4, max: 16}: as many as there is room
    for, fewer when a node goes, more when one comes."""
    num_cpus: float = 1.0  # of each worker
    num_gpus: int = 0  # of each worker
    max_failures: int = 3  # how often Ray starts the workers again when one has died
    timeout_s: int = 600  # a rank that waits for another for so long ends the training
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # without a Ray cluster
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Every rank holds the whole network, or a part of it (FSDP2), for large ones: not with 16-mixed. A training that
    was begun with one goes on with it."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"] = "32-true"
    """Lightning's: bf16-mixed for cards of our days; 64-true to compare trainings to the last digits."""
    micro_batch_size: int = 0
    """Images that a rank computes at once, 0 for all of its batch: where memory is short. It costs a forward pass."""
    gradient_checkpointing: bool = False  # less memory: layers of the backbone run again for their gradients
    compile: bool = False  # layers and heads by torch.compile, for training; a minute or two at the start
    compile_backend: str = "inductor"  # torch.compile's

    def __post_init__(self) -> None:
        fewest, most = self.least_and_most_workers
        if min(fewest, self.num_cpus, self.num_gpus, self.max_failures, self.micro_batch_size) < 0:
            raise ValueError("workers, num_cpus, num_gpus, max_failures and micro_batch_size cannot be negative")
        if most < fewest or (isinstance(self.workers, Between) and fewest == 0):
            raise ValueError("workers: min must be at least 1, and max not below it")
        if self.timeout_s < 1:
            raise ValueError("timeout_s must be at least 1")
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError("strategy fsdp does not scale gradients as precision 16-mixed does: use bf16-mixed")
        if self.num_cpus == 0:
            raise ValueError("num_cpus cannot be 0")

    @property
    def pool(self) -> Pool:
        """The workers as the cluster sees them."""
        fewest, most = self.least_and_most_workers
        return Pool(self.num_cpus, self.num_gpus, min_workers=max(fewest, 1), max_workers=max(most, 1))

    @property
    def least_and_most_workers(self) -> tuple[int, int]:
        """How many processes of a Ray cluster there may be."""
        if isinstance(self.workers, Between):
            return self.workers.min, self.workers.max
        return self.workers, self.workers

    @property
    def most_ranks(self) -> int:
        """How many processes may train together."""
        return self.least_and_most_workers[1] or torchrun_settings()["devices"] * torchrun_settings()["num_nodes"]

    @property
    def timeout(self) -> timedelta:
        """`timeout_s`."""
        return timedelta(seconds=self.timeout_s)


@dataclass(frozen=True)
class DataConfig:
    """How batches are made from packed shards; one is of all ranks together, so that weights do not depend on them."""

    image_height: int = 512  # pixels; the width is twice that
    batch_size: int = 4  # images of a step, on all ranks together; places that they cannot share evenly stay empty
    num_workers: int = 2  # processes that read and decode, per rank
    augment: float = 1.0  # strength of the augmentation, 0 for none
    augment_by_source: dict[str, SourceAugment] = field(default_factory=dict)
    """Of some sources in its place, such as {labels-1: {strength: 1, cutmix: 0.5}}; a strength of 0 turns alone."""
    seed: int = 0  # of the order and of the augmentation
    mixture: dict[str, float] = field(default_factory=dict)  # weight of each source in a batch; else as often as there
    reader: Literal["indexed", "webdataset"] = "indexed"
    """Random access, or shards streamed from front to back, which does not resume exactly within an epoch."""

    def check(self, ranks: int) -> None:
        """Raises ValueError if a batch does not hold an image for each of so many ranks."""
        if self.batch_size < ranks:
            raise ValueError(f"batch_size {self.batch_size} is less than an image for each of {ranks} ranks")

    def module(self, storage: Storage, data: Data, ranks: int = 1) -> "PanoramaDataModule":
        """The loaders over packed columns; raises ValueError if one is not packed, or if they cannot be mixed."""
        from ...models.data.joined import joined, mixture_of
        from ...models.data.loader import PanoramaDataModule
        from ...models.data.streaming import ShardStream
        from ..packing.samples import open_samples, stream_samples

        mixture = self.mixture
        if isinstance(data, str):
            opened = stream_samples if self.reader == "webdataset" else open_samples
            train, validation = (opened(*packed_at(storage, data), split) for split in ("train", "val"))
        else:
            if self.reader == "webdataset":
                raise ValueError("several columns need the reader `indexed`")
            train_sets = {name: open_samples(*packed_at(storage, name), "train") for name in data}
            train = joined(list(train_sets.values()))
            validation = joined([open_samples(*packed_at(storage, name), "val") for name in data])
            if isinstance(data, Mapping):
                if mixture:
                    raise ValueError("batches.mixture weighs sources, and data weighs columns: give one of them")
                mixture = mixture_of(train_sets, data)
        if isinstance(train, ShardStream):
            train.check_shared(ranks, self.num_workers)
        return PanoramaDataModule(
            train,
            validation,
            image_height=self.image_height,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
            augment=self.augment,
            mixture=mixture,
            augment_by_source=self.augment_by_source,
        )


def columns_of(data: Data) -> list[str]:
    """The names of packed columns: in the run, or URIs and paths of their own."""
    return [data] if isinstance(data, str) else list(data)


def packed_at(storage: Storage, name: str) -> tuple[Storage, str]:
    """The storage that a packed column lies in, and its name there."""
    if not is_uri(name) and not name.startswith("/"):
        return storage, name
    place = Place.parse(name)
    return Storage(str(place.parent)), place.name


def is_under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_rank() -> int:
    """The rank of this process among those that torchrun has started; 0 without it."""
    return int(os.environ["RANK"]) if is_under_torchrun() else 0


def torchrun_settings() -> dict[str, int]:
    """The processes a node and the nodes that torchrun has started; 1 and 1 without it."""
    if not is_under_torchrun():
        return {"devices": 1, "num_nodes": 1}  # never more: Lightning would run the command line once a device
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": local, "num_nodes": int(os.environ["WORLD_SIZE"]) // local}


@dataclass(frozen=True)
class Watching:
    """What is looked at and kept while a training runs; nothing of it changes the weights.

    A validation on up to `validate_samples` every `validate_every` steps; 0: four times over the training. The end is
    validated on all. The `keep` models that were best by the figure `best_by` are kept. `loggers` are Lightning's, by
    class path, or with settings: {class_path: …, init_args: {…}}.
    """

    validate_every: int = 0
    validate_samples: int = 64
    keep: int = 1
    best_by: Figure = "abs_rel"
    loggers: Sequence[Any] = ()

    def check(self) -> None:
        """Raises ValueError for what cannot be."""
        if min(self.validate_every, self.validate_samples, self.keep) < 0:
            raise ValueError("validate_every, validate_samples and keep cannot be negative")
        for logger in self.loggers:
            _logger_of(logger)

    def make_loggers(self) -> list[Any]:
        """The loggers that the settings name."""
        return [make(**arguments) for make, arguments in map(_logger_of, self.loggers)]


def _logger_of(spec: Any) -> tuple[type, dict[str, Any]]:
    """The class of a logger, and what it is made with; ValueError if there is none, or it takes other arguments."""
    from ...models.support.torchvision_ops import register_missing_operators

    register_missing_operators()  # before lightning, which imports torchvision where it is installed
    path = spec.get("class_path") if isinstance(spec, dict) else spec
    arguments = spec.get("init_args", {}) if isinstance(spec, dict) else {}
    module, _, name = str(path).rpartition(".")
    try:
        found = getattr(import_module(module), name)
        signature(found).bind(**arguments)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"loggers: no class {path!r}: {error}") from error
    except TypeError as error:
        raise ValueError(f"loggers: {path}: {error}; its arguments stand in init_args") from error
    return found, arguments
