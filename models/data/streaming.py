"""Samples of shards as webdataset's own pipeline streams them: for places where reading at random is dear.

Each rank and each worker reads shards of its own from front to back, over and over, and mixes them in a buffer. So
batches are as many on all ranks, and an epoch is as long as by random access, but what is in them depends on ranks
and workers, and a training that goes on in the middle of an epoch sees other samples than an undisturbed one.
"""

import copy
import json
import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from webdataset.filters import shuffle
from webdataset.pipeline import DataPipeline
from webdataset.shardlists import SimpleShardList, split_by_worker
from webdataset.tariterators import group_by_keys, tar_file_expander

from .order import PADDING, BatchOrder, Mixture
from .shards import DEFAULT_SOURCE, NOTHING, ShardRef, ShardStorage, Stored, known_facts

NOTICE = "reader webdataset: shards are streamed, so a resume in the middle of an epoch goes on with other samples"
_BUFFER = 1000  # samples, encoded


@dataclass(frozen=True)
class ShardStream:
    """The samples of shards in the order in which they come. `folder` goes before the names of the shards."""

    shards: tuple[ShardRef, ...]
    storage: ShardStorage
    folder: str = ""

    @property
    def sizes(self) -> list[int]:
        """Samples of each shard."""
        return [shard.samples for shard in self.shards]

    def check_shared(self, ranks: int, num_workers: int) -> None:
        """ValueError if there is no shard for every worker of every rank."""
        if len(self.shards) < ranks * max(num_workers, 1):
            raise ValueError(
                f"{len(self.shards)} shards cannot be streamed by {ranks} ranks with {num_workers} workers each: "
                "use fewer workers, smaller shards, or the reader `indexed`"
            )

    def mixture(self, weights: Mapping[str, float]) -> Mixture:
        raise ValueError("a mixture of sources needs the reader `indexed`")

    def pasted(self, chances: Mapping[str, float], numbers: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        if any(chances.values()):
            raise ValueError("CutMix needs the reader `indexed`")
        return np.full_like(numbers, PADDING)

    def stored(self, order: BatchOrder, numbers: np.ndarray, worker: int, workers: int) -> Iterator[Stored]:
        """In training, as many as `numbers` has of them; in validation, exactly those."""
        mine = numbers[worker::workers].ravel()
        if not order.training:
            yield from self._picked(mine)
            return
        stream = self._endless(order, worker)
        for number in mine:
            yield NOTHING if number == PADDING else next(stream)

    def _endless(self, order: BatchOrder, worker: int) -> Iterator[Stored]:
        begin = f"{order.seed}/{order.epoch}/{order.batch}"
        buffer = random.Random(f"{begin}/{order.rank}/{worker}")
        urls = [shard.url for shard in self.shards]
        random.Random(begin).shuffle(urls)
        while True:
            mine = urls[order.rank :: order.world_size]
            yield from map(
                _stored, self._pipeline(mine, split_by_worker, shuffle(_BUFFER, initial=_BUFFER, rng=buffer))
            )

    def _picked(self, numbers: np.ndarray) -> Iterator[Stored]:
        wanted = set(numbers.tolist())
        everything = self._pipeline([shard.url for shard in self.shards])
        yield from (_stored(sample) for number, sample in enumerate(everything) if number in wanted)
        yield from [NOTHING] * int((numbers == PADDING).sum())

    def _pipeline(self, urls: list[str], splitter: Any = None, mixer: Any = None) -> Iterator[dict[str, Any]]:
        stages = [SimpleShardList(urls), splitter, self._opened, tar_file_expander, group_by_keys, mixer]
        return iter(DataPipeline(*filter(None, stages)))

    def _opened(self, urls: Iterator[dict[str, str]]) -> Iterator[dict[str, Any]]:
        storage = copy.copy(self.storage)  # no process shares the connections of another
        for item in urls:
            with storage.open(self.folder + item["url"]) as stream:
                yield {**item, "stream": stream}


def _stored(sample: Mapping[str, Any]) -> Stored:
    key = sample["__key__"]
    facts = json.loads(sample.get("json", b"{}"))
    source, number = str(facts.get("source", DEFAULT_SOURCE)), zlib.crc32(key.encode())
    return Stored(key, source, sample.get("jpg"), sample.get("depth.png"), number, *known_facts(facts))
