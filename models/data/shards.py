"""Random access to the samples of WebDataset shards.

A shard is a tar whose members KEY.jpg, KEY.depth.png, KEY.json stand side by side. An index says where the bytes of
each sample lie, so that any sample is one range read away, shuffling is a permutation of numbers, and skipping to the
middle of an epoch reads nothing. webdataset's own pipeline streams: it can neither skip nor resume, nor give every
rank the same count.
"""

import copy
import json
import math
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from webdataset.tariterators import base_plus_ext

from .order import PADDING, BatchOrder, Mixture

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # the name of the tar
        ("source", pa.dictionary(pa.int32(), pa.string())),
        *((name, pa.int64()) for name in ("jpg_offset", "jpg_bytes", "depth_offset", "depth_bytes")),
    ]
)
"""One row a sample, shard by shard: where its image and its depth PNG lie in the tar; −1 for what it lacks."""

_HEADER_BYTES = 512
_JSON_BYTES = 4096  # that are read for the json of a sample, which follows its image
_READS = 16  # samples that a process has asked its storage for at a time
DEFAULT_SOURCE = "labelled"


class ShardStorage(Protocol):
    """Where shards lie. It is copied for every process that reads, so that no connection is shared."""

    def open(self, path: str, /) -> IO[bytes]:
        """A seekable stream."""
        ...

    def peek(self, path: str, offset: int, size: int, /) -> bytes:
        """Bytes of a file, fewer where it ends; raises an OSError that names it."""
        ...


class LocalFiles:
    """Shards that are named by their paths on this machine."""

    def open(self, path: str) -> IO[bytes]:
        return open(path, "rb")

    def peek(self, path: str, offset: int, size: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


class ShardRef(NamedTuple):
    """A packed shard and the number of its samples, as the index of the pack stage gives it."""

    url: str
    samples: int


class Facts(NamedTuple):
    """What is known of a sample of a batch, as `Stored` has it."""

    key: str
    source: str
    scene: str
    spread: float | None


@dataclass(frozen=True)
class Stored:
    """A sample as it is stored: the bytes of its image and of its depth PNG, None for what it lacks."""

    key: str
    source: str
    jpg: bytes | None
    depth_png: bytes | None
    number: int  # what its augmentation is drawn from
    scene: str = ""  # empty where none is known
    spread: float | None = None  # of the predictions that its label is the mean of; inf: a label without any distance

    @property
    def facts(self) -> Facts:
        """What goes with its pixels into a batch."""
        return Facts(self.key, self.source, self.scene, self.spread)


NOTHING = Stored("", "", None, None, 0)
"""What is in a place that stays empty."""


def scan_shard(stream: IO[bytes], name: str) -> pa.Table:
    """The index of a tar from its headers and its json; raises ValueError naming it if it is damaged."""
    samples: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                key, extension = base_plus_ext(member.name)
                if member.isreg() and key is not None and extension is not None:
                    fields = samples.setdefault(key, {"source": DEFAULT_SOURCE})
                    if extension == "json":
                        fields["source"] = _source(tar.extractfile(member))
                    fields[extension] = member
    except tarfile.TarError as error:
        raise ValueError(f"shard {name} is no readable tar: {error}") from error
    rows = [
        {
            "key": key,
            "shard": name,
            "source": fields["source"],
            **_place("jpg", fields.get("jpg")),
            **_place("depth", fields.get("depth.png")),
        }
        for key, fields in samples.items()
    ]
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def _source(content: IO[bytes] | None) -> str:
    assert content is not None  # a regular member
    facts = json.load(content)
    return str(facts.get("source", DEFAULT_SOURCE)) if isinstance(facts, dict) else DEFAULT_SOURCE


def _place(name: str, member: tarfile.TarInfo | None) -> dict[str, int]:
    return {f"{name}_offset": member.offset_data if member else -1, f"{name}_bytes": member.size if member else -1}


def scan_shards(shards: Sequence[ShardRef], storage: ShardStorage | None = None, folder: str = "") -> pa.Table:
    """The index of shards in a folder, each of which is read once; ValueError if one does not hold what it should."""
    storage, tables = storage or LocalFiles(), [INDEX_SCHEMA.empty_table()]
    for url, samples in shards:
        with storage.open(folder + url) as stream:
            tables.append(scan_shard(stream, url))
        if len(tables[-1]) != samples:
            raise ValueError(f"shard {url} holds {len(tables[-1])} samples where {samples} were promised")
    return merged(tables)


def merged(tables: Iterable[pa.Table]) -> pa.Table:
    """One table of one chunk, as an index has to be, so that its figures are read where they lie."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


class ShardSet:
    """The samples of several shards by number, from an index that all processes of a node share: forks do not copy it.

    `folder` goes before the names of the shards.
    """

    def __init__(self, index: pa.Table, storage: ShardStorage | None = None, folder: str = ""):
        """`index` has `INDEX_SCHEMA`, is sorted by shard, and may be mapped from a file."""
        self.index, self.storage, self.folder = index, storage or LocalFiles(), folder
        self._keys, shard, source, *places = (_chunk(column) for column in index.columns)
        self._shards, self._shard_names = _figures(shard.indices), shard.dictionary.to_pylist()
        self._sources, self._source_names = _figures(source.indices), source.dictionary.to_pylist()
        self._jpg_offset, self._jpg_bytes, self._depth_offset, self._depth_bytes = map(_figures, places)
        changes = np.flatnonzero(np.diff(self._shards)) + 1
        self.sizes: list[int] = np.diff(np.concatenate([[0], changes, [len(self)]])).tolist() if len(self) else []
        """Samples of each shard."""

    def __len__(self) -> int:
        return len(self._shards)

    def mixture(self, weights: Mapping[str, float]) -> Mixture:
        """The mixture of these sources; ValueError unless every source of the samples has a weight, and no other."""
        there = [name for number, name in enumerate(self._source_names) if (self._sources == number).any()]
        if sorted(weights) != sorted(there) or min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"mixture {dict(weights)}: needs a weight for each of {sorted(there)}, 0 for none of it")
        total = sum(weights.values())
        return Mixture(self._sources, tuple(weights.get(name, 0.0) / total for name in self._source_names))

    def pasted(self, chances: Mapping[str, float], numbers: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Of samples of any shape, those that CutMix pastes into them, or PADDING: any of the same source.

        Drawn from (seed, epoch, sample) alone, as a batch may be shared by any number of ranks.
        """
        found = np.full_like(numbers, PADDING)
        for name, chance in chances.items():
            if name not in self._source_names:
                raise ValueError(f"augmentation of {name!r}: the sources are {sorted(self._source_names)}")
            own = np.flatnonzero(self._sources == self._source_names.index(name))
            at = np.isin(numbers, own) & (uniform(numbers, seed, epoch, 0) < chance)
            found[at] = own[(uniform(numbers[at], seed, epoch, 1) * len(own)).astype(int)]
        return found

    def stored(self, order: BatchOrder, numbers: np.ndarray, worker: int, workers: int) -> Iterator[Stored]:
        """The samples of every `workers`-th of the batches `numbers` (batches, B), several on their way at a time."""
        mine = copy.copy(self)
        mine.storage = copy.copy(self.storage)  # no process shares the connections of another
        pending: deque[Future[Stored]] = deque()
        with ThreadPoolExecutor(_READS) as pool:
            for number in numbers[worker::workers].ravel().tolist():
                pending.append(pool.submit(mine.read, number))
                if len(pending) > _READS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def read(self, number: int) -> Stored:
        """The sample of a number in [0, len), in one range read; NOTHING for PADDING.

        ValueError if the tar is not what the index says.
        """
        if number == PADDING:
            return NOTHING
        offsets = [int(self._depth_offset[number]), int(self._jpg_offset[number])]
        sizes = [int(self._depth_bytes[number]), int(self._jpg_bytes[number])]
        start = min((offset for offset in offsets if offset >= 0), default=_HEADER_BYTES) - _HEADER_BYTES
        end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
        url = self.folder + self._shard_names[self._shards[number]]
        data = self.storage.peek(url, start, max(end - start, 0) + _JSON_BYTES)
        key = self._keys[number].as_py()
        try:
            depth_png, jpg = (_member(data, o - start, s) for o, s in zip(offsets, sizes, strict=True))
        except tarfile.TarError as error:
            raise ValueError(f"sample {key}: {url} is not what its index says: {error}") from error
        scene, spread = known_facts(_json_after(data[-(-(end - start) // _HEADER_BYTES) * _HEADER_BYTES :], key))
        return Stored(key, self._source_names[self._sources[number]], jpg, depth_png, number, scene, spread)


def uniform(numbers: np.ndarray, *key: int) -> np.ndarray:
    """Numbers in [0, 1) from integers and a key, by splitmix64 (Steele et al. 2014)."""
    state = numbers.astype(np.uint64)
    for part in (*key, 0):
        state = (state + np.uint64(part) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)) * 2.0**-53


def _chunk(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _figures(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=True)


def known_facts(info: Any) -> tuple[str, float | None]:
    """Scene and spread of a sample, by its json."""
    if not isinstance(info, dict):
        return "", None
    label = info.get("label")
    if not isinstance(label, dict) or "spread" not in label:
        return str(info.get("scene", "")), None
    return str(info.get("scene", "")), math.inf if label["spread"] is None else float(label["spread"])


def _json_after(data: bytes, key: str) -> Any:
    """The json of a sample that the bytes of a tar begin with; None if that is not there, or too long."""
    try:
        member = tarfile.TarInfo.frombuf(data[:_HEADER_BYTES], "utf-8", "surrogateescape")
        return json.loads(data[_HEADER_BYTES : _HEADER_BYTES + member.size]) if member.name == f"{key}.json" else None
    except (tarfile.TarError, ValueError):
        return None


def _member(data: bytes, start: int, size: int) -> bytes | None:
    """A member's content, if the header before it says so: a tar that was replaced would be read at wrong places."""
    if size < 0:
        return None
    stated = tarfile.TarInfo.frombuf(data[start - _HEADER_BYTES : start], "utf-8", "surrogateescape").size
    if stated != size or len(data) < start + size:
        raise tarfile.ReadError(f"a member of {size} bytes is one of {stated}")
    return data[start : start + size]
