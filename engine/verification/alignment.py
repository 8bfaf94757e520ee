"""Compares the keys of a shard with those of the shards that it was made from.

Every sample that a stage reads becomes a row or a drop of the same key. A stage that makes many rows of a sample (a
video's frames) reads a table whose key has a name of its own; its keys begin with the sample's and a hyphen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from .inspection import Content, listed


@dataclass(frozen=True)
class ShardContent:
    """What a stage made of a shard: its rows and drops, and their paths."""

    name: str
    samples_in: int
    rows_path: str
    rows: Content
    drops_path: str
    drops: pa.Array


def misalignments(shard: ShardContent, inputs: Mapping[str, Content]) -> Iterator[str]:
    """A line for each way in which a shard does not fit its inputs, which are given by path."""
    fans_out = any(content.key_name != shard.rows.key_name for content in inputs.values())
    parents = {path: _keys(content.keys) for path, content in inputs.items()}
    rows, drops, common = _keys(shard.rows.keys), _keys(shard.drops), set.intersection(*parents.values())
    for path, theirs in parents.items():
        for mine, keys in ((shard.rows_path, rows), (shard.drops_path, drops)):
            if unknown := sorted(key for key in keys if _origin(key, theirs, fans_out) is None):
                yield f"{mine}: holds {listed(unknown)}, which {path} does not"
    if lost := sorted(common - {_origin(key, common, fans_out) for key in rows | drops}):
        yield f"{shard.name}: {listed(lost)} of {' and '.join(parents)} became neither a row nor a drop"
    if both := sorted(rows & drops):
        yield f"{shard.drops_path}: drops {listed(both)}, which {shard.rows_path} holds"
    if shard.samples_in != len(common):
        have = f"have {len(common)} in common" if len(parents) > 1 else f"has {len(common)}"
        yield f"{shard.name}: took in {shard.samples_in} samples, but {' and '.join(parents)} {have}"


def _keys(keys: pa.Array | None) -> set[str]:
    return set(keys.to_pylist()) if keys is not None else set()


def _origin(key: str, parents: set[str], fans_out: bool) -> str | None:
    """The sample that a key stems from: its own, or where a stage fans out, one that it begins with."""
    while key not in parents:
        key = key.rpartition("-")[0] if fans_out else ""
        if not key:
            return None
    return key
