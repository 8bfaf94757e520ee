"""Several packed columns as one set of samples, wherever each of them lies."""

import copy
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa

from .order import Mixture
from .shards import ShardSet, ShardStorage, merged


class JoinedStorage:
    """Shards of several storages; the number of its storage goes before the path of each."""

    def __init__(self, storages: Sequence[ShardStorage]) -> None:
        self._storages = storages

    def __copy__(self) -> "JoinedStorage":
        return JoinedStorage([copy.copy(storage) for storage in self._storages])

    def open(self, path: str) -> IO[bytes]:
        number, _, rest = path.partition("/")
        return self._storages[int(number)].open(rest)

    def peek(self, path: str, offset: int, size: int) -> bytes:
        number, _, rest = path.partition("/")
        return self._storages[int(number)].peek(rest, offset, size)


def joined(sets: Sequence[ShardSet]) -> ShardSet:
    """The samples of all sets, one set after another."""
    tables = []
    for number, one in enumerate(sets):
        shards = one.index["shard"].combine_chunks()
        names = pa.array([f"{number}/{one.folder}{name}" for name in shards.dictionary.to_pylist()], pa.string())
        at = one.index.column_names.index("shard")
        renamed = pa.DictionaryArray.from_arrays(shards.indices, names)
        tables.append(one.index.set_column(at, "shard", renamed))
    return ShardSet(merged(tables), JoinedStorage([one.storage for one in sets]))


def mixture_of(sets: Mapping[str, ShardSet], weights: Mapping[str, float]) -> Mixture:
    """The mixture of joined sets by weights of their names; ValueError for one of no use."""
    total = sum(weights.values())
    if min(weights.values()) < 0 or not total:
        raise ValueError(f"data {dict(weights)}: weights cannot be negative, nor all 0")
    if empty := [name for name, one in sets.items() if weights[name] and not len(one)]:
        raise ValueError(f"data: {empty[0]} has no sample to train on")
    of_each = np.repeat(np.arange(len(sets)), [len(one) for one in sets.values()])
    return Mixture(of_each, tuple(weights[name] / total for name in sets))
