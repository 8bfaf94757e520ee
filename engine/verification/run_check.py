"""Checks that need the whole run: stale inputs, keys in two shards, and objects that no receipt names.

Held in memory: paths not yet named by a receipt, a hash a receipt, and the keys of columns that are read from no other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from ..rundir.receipts import digest_hashes
from .inspection import listed, repeated
from .shard_check import Findings, Reference, SeenReceipt

_WITHOUT_RECEIPTS = frozenset({"receipts", "checkpoints", "logs", ".holders", ".index", ".members", ".tmp"})
_AT_TOP = frozenset({"run.yaml"})
_PATHS = (("", "."), ("", "/"), ("drops/", "."))  # of a shard's objects: before and after its name


class _Shard(NamedTuple):
    sha256: str
    is_tar: bool
    samples: int


class RunCheck:
    """Collects the findings of all shard ids, and returns the problems of the run."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._unnamed = {path for path in paths if path not in _AT_TOP and path.split("/")[0] not in _WITHOUT_RECEIPTS}
        self._folders: set[str] = set()
        self._problems: list[str] = []
        self._references: list[Reference] = []
        self._damaged: set[tuple[str, str]] = set()
        self._shards: dict[str, dict[str, _Shard]] = defaultdict(dict)
        self._digests: dict[str, str] = {}
        self._first_keys: dict[str, dict[str, pa.Array]] = defaultdict(dict)

    def add(self, findings: Findings) -> None:
        """Adds the findings of one shard id."""
        self._problems += findings.problems
        self._references += findings.references
        self._damaged.update(findings.damaged)
        for seen in findings.seen:
            self._add_receipt(seen)
        for column, keys in findings.first_keys.items():
            self._first_keys[column][findings.shard] = keys

    def problems(self) -> Iterator[str]:
        """All problems; called when every shard id was added."""
        yield from self._problems
        yield from filter(None, map(self._check_reference, self._references))
        for column in self._first_keys:
            yield from self._keys_of_two_shards(column)
        yield from self._orphans()

    def samples(self, column: str) -> int:
        """Samples of a column. Where it has tar shards, tables and indices beside them hold none."""
        shards = self._shards[column].values()
        tars = [shard for shard in shards if shard.is_tar]
        return sum(shard.samples for shard in tars or shards)

    def _add_receipt(self, seen: SeenReceipt) -> None:
        self._shards[seen.column][seen.shard] = _Shard(seen.sha256, seen.outputs[0].endswith(".tar"), seen.samples_out)
        for path in seen.outputs:
            if path in self._unnamed:
                self._unnamed.remove(path)
            else:
                self._folders.add(path)

    def _check_reference(self, reference: Reference) -> str:
        """What is wrong with what a receipt says it was made from; empty if nothing is, or if it cannot be known."""
        column, _, output = reference.place.partition("/")
        shard, there = output or reference.shard, self._shards[column]
        if (column, shard) in self._damaged or (not shard and column in {name for name, _ in self._damaged}):
            return ""
        made = "was made with" if output else "was made from"
        if shard and shard not in there:
            return f"{reference.name}: {made} {column}/{shard}, which has no receipt"
        if reference.sha256 == (there[shard].sha256 if output else self._digest(column)):
            return ""
        return f"{reference.name}: {made} another {reference.place} than there is"

    def _digest(self, column: str) -> str:
        if column not in self._digests:
            hashes = ((shard, there.sha256) for shard, there in self._shards[column].items())
            self._digests[column] = digest_hashes(hashes)
        return self._digests[column]

    def _keys_of_two_shards(self, column: str) -> Iterator[str]:
        by_shard = self._first_keys[column]
        twice = set(repeated(pa.chunked_array(list(by_shard.values()), pa.string())))
        holders: dict[str, str] = {}
        for shard, keys in by_shard.items() if twice else ():
            again = sorted(twice.intersection(keys.to_pylist()))
            for first in sorted({holders[key] for key in again if key in holders}):
                shared = [key for key in again if holders.get(key) == first]
                yield f"{column}/{shard}: holds {listed(shared)}, which {column}/{first} holds too"
            holders |= {key: shard for key in again if key not in holders}

    def _orphans(self) -> Iterator[str]:
        """Objects that no receipt names, less those of shards whose receipt cannot be read."""
        unsure = tuple(f"{folder}{column}/{shard}{end}" for column, shard in self._damaged for folder, end in _PATHS)
        for path in self._unnamed:
            if not path.startswith(unsure) and self._folders.isdisjoint(map(str, PurePosixPath(path).parents)):
                yield f"{path}: no receipt names it"
