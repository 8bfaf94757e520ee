"""What a step of a recipe is: a map stage works on one shard at a time, a barrier on a whole run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..records.sample import Drop, Row, Sample
from ..storage.storage import Storage
from .asset_settings import named_assets, without_assets
from .limits import Pool
from .source import note_source

if TYPE_CHECKING:
    from ..records.column import Column


class UnreachableError(ValueError):
    """A place outside the run that cannot be looked into from here; the message is one clear line."""


class BrokenStageError(RuntimeError):
    """What `Stage.process` raises where no sample is to blame and none would fare better: the run ends at once."""


class Step(ABC):
    """A node of a recipe. Concrete steps are dataclasses whose fields are the recipe's settings."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the meaning of the output changes

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        note_source(cls)  # now: the file may be edited before anybody asks for its hash

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Names of the columns this step reads."""

    @property
    @abstractmethod
    def writes(self) -> Column:
        """The one column this step adds."""

    def shard_reads(self, there: Container[str]) -> tuple[str, ...]:
        """The columns that one of its shards is made from, given which columns hold that shard."""
        return self.reads

    def assets(self) -> dict[str, str]:
        """What the step loads besides columns, by name: what its settings of type `AssetUri` say."""
        return named_assets(self)

    def check(self) -> None:  # noqa: B027 - most settings are checked by their types
        """Looks whether the settings point at something; raises ValueError or OSError with one clear line."""

    def external(self) -> dict[str, Any]:
        """Facts outside the run directory that the output depends on; they enter the fingerprint."""
        return {}

    def workers(self) -> Pool | None:
        """The workers that a barrier starts on the cluster by itself, if it does."""
        return None

    def settings(self) -> dict[str, Any]:
        """What of the recipe's settings enters the fingerprint, as plain values: of assets it is their content."""
        return without_assets(self)

    @property
    def produces(self) -> str:
        """What other nodes name to depend on this one."""
        return self.writes.name


@dataclass(frozen=True)
class StageContext:
    """What a stage may use of the run besides its samples."""

    storage: Storage  # the run directory, for stages whose samples name objects in it
    assets: Mapping[str, str] = field(default_factory=dict)  # by name: a local path, or a hub id as the recipe gave it


class Stage(Step):
    """Reads columns of one shard and adds one. Knows no Ray and no other shard; it has to pickle."""

    batch_size: int = 1
    sample_limit_s: ClassVar[float] = 600.0  # a worker that takes longer over one sample is killed
    whole_batches: ClassVar[bool] = False  # its samples depend on each other: where a batch fails, so does its shard

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Columns of `reads` of which each shard has one: the stage follows the shards of all of them."""
        return ()

    def shard_reads(self, there: Container[str]) -> tuple[str, ...]:
        """Of `alternatives` the one that holds the shard; where none does, the first, which is missing then."""
        without = [column for column in self.alternatives if column not in there]
        left_out = without[1:] if len(without) == len(self.alternatives) else without
        return tuple(column for column in self.reads if column not in left_out)

    def setup(self, context: StageContext) -> None:
        """Runs once per worker, before its first samples. What it raises would meet every shard, and ends the run."""

    def teardown(self) -> None:
        """Runs once per worker at its end; safe if `setup` failed."""

    @abstractmethod
    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        """Yields a row or a drop for every sample, keys rising. One sample may fan out into many rows."""


class PipelinedStage(Stage):
    """A stage around a model that never waits: while it predicts a batch, threads decode later ones and encode earlier.

    Each part works on what its arguments hold and changes nothing that another one uses. A drop in the place of what
    was decoded, or of a result, ends that sample. Batches, their order and their bytes are those of `process`.
    """

    predict_seconds = 0.0  # spent in `predict` while threads decoded and encoded, since it was set up

    @abstractmethod
    def decode(self, sample: Sample) -> Any:
        """What the model takes of a sample, or a drop. Runs ahead, in several threads at once."""

    @abstractmethod
    def predict(self, decoded: list[Any]) -> Sequence[Any]:
        """A result or a drop for each thing decoded, at least one. Runs in the main thread, a batch at a time."""

    @abstractmethod
    def encode(self, sample: Sample, result: Any) -> Row | Drop:
        """The row of a sample. Runs behind, in several threads at once."""

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        """The three parts one after another."""
        results = self.predict_decoded([self.decode(sample) for sample in batch])
        return (self.encode_result(sample, result) for sample, result in zip(batch, results, strict=True))

    def predict_decoded(self, decoded: Sequence[Any]) -> list[Any]:
        """`predict` of what is no drop; drops stay in their places."""
        good = [one for one in decoded if not isinstance(one, Drop)]
        results = self.predict(good) if good else []
        if len(results) != len(good):
            raise ValueError(f"{self.name}: predict gave {len(results)} results for {len(good)} samples")
        following = iter(results)
        return [one if isinstance(one, Drop) else next(following) for one in decoded]

    def encode_result(self, sample: Sample, result: Any) -> Row | Drop:
        """`encode`, or the drop that stands for the result."""
        return result if isinstance(result, Drop) else self.encode(sample, result)


class SourceStage(Stage):
    """A stage that reads no column: its shards and their samples follow from its settings alone."""

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def notes(self) -> Sequence[str]:
        """Lines for people about what it leaves out, said when it begins."""
        return ()

    @abstractmethod
    def shards(self) -> Sequence[str]:
        """The ids of all shards, sorted."""

    @abstractmethod
    def source(self, shard: str) -> Iterator[Sample]:
        """The samples of one shard, keys rising; `columns` may be empty."""
