"""Random access to the samples of WebDataset shards.

A shard is a tar whose members KEY.jpg, KEY.depth.png, KEY.json stand side by side. Its index (where each member's
bytes lie) is read from the tar headers alone; after that any sample is one seek away, so that shuffling is a
permutation of numbers, and skipping to the middle of an epoch reads nothing. webdataset's own pipeline streams: it
can neither skip nor resume, nor give every rank the same count.
"""

import json
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

from webdataset.tariterators import base_plus_ext

Opener = Callable[[str], BinaryIO]
"""Opens a shard's URL as a seekable binary stream; must pickle, since it goes to worker processes."""

OPEN_SHARDS = 32
"""Shards that a process keeps open, with their indices; an order of samples should stay within about as many."""


def open_local(url: str) -> BinaryIO:
    return open(url, "rb")


class ShardRef(NamedTuple):
    """A packed shard and the number of its samples, as the index of the pack stage gives it."""

    url: str
    samples: int


class Span(NamedTuple):
    """Where a member's bytes lie in its tar."""

    offset: int
    size: int


@dataclass(frozen=True)
class IndexedShard:
    """An open shard: samples by number, members by extension."""

    stream: BinaryIO
    keys: tuple[str, ...]
    spans: tuple[Mapping[str, Span], ...]

    def read(self, number: int) -> dict[str, Any]:
        """{"__key__": KEY, "jpg": bytes, "depth.png": bytes, "json": dict} of one sample."""
        sample: dict[str, Any] = {"__key__": self.keys[number]}
        for extension, span in self.spans[number].items():
            self.stream.seek(span.offset)
            sample[extension] = self.stream.read(span.size)
        return sample | {"json": json.loads(sample["json"]) if "json" in sample else {}}


def index_shard(stream: BinaryIO, name: str) -> IndexedShard:
    """Reads the headers of a tar; ValueError naming it if it is damaged."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            members = [(member.name, Span(member.offset_data, member.size)) for member in tar if member.isreg()]
    except tarfile.TarError as error:
        raise ValueError(f"shard {name} is no readable tar: {error}") from error
    samples = _group(members)
    return IndexedShard(stream, tuple(samples), tuple(samples.values()))


def _group(members: Iterable[tuple[str, Span]]) -> dict[str, dict[str, Span]]:
    samples: dict[str, dict[str, Span]] = {}
    for name, span in members:
        key, extension = base_plus_ext(name)
        if key is not None and extension is not None:
            samples.setdefault(key, {})[extension] = span
    return samples


@dataclass
class ShardSet:
    """The samples of several shards, numbered through. Opens lazily and pickles, open files left behind."""

    shards: Sequence[ShardRef]
    opener: Opener = open_local
    _ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ends = list(accumulate(shard.samples for shard in self.shards))
        self._open = lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The sample of a number in [0, len), as `IndexedShard.read` gives it."""
        shard = bisect_right(self._ends, number)
        return self._open(shard).read(number - self._ends[shard] + self.shards[shard].samples)

    def _open_shard(self, shard: int) -> IndexedShard:
        url, samples = self.shards[shard]
        indexed = index_shard(self.opener(url), url)
        if len(indexed.keys) != samples:
            raise ValueError(f"shard {url} holds {len(indexed.keys)} samples where {samples} were promised")
        return indexed

    def __getstate__(self) -> dict[str, Any]:
        return {"shards": self.shards, "opener": self.opener}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)
