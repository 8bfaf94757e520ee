"""Whether a shard of a column and the shards it was made from go together, told from their keys alone.

Every sample that a stage reads becomes a row or a drop of the same key. A stage that makes many rows of a sample (a
video's frames) reads a table whose key has a name of its own; its keys begin with the sample's and a hyphen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from .inspection import Content, listed


@dataclass(frozen=True)
class JoinedShard:
    """What a stage made of a shard: the rows and the drops, and the places where they lie."""

    name: str
    samples_in: int
    rows_place: str
    rows: Content
    drops_place: str
    drops: pa.Array


def misalignments(made: JoinedShard, inputs: Mapping[str, Content]) -> Iterator[str]:
    """A line for each way in which a shard does not fit the shards it was made from, given by their places."""
    fans_out = any(content.key_name != made.rows.key_name for content in inputs.values())
    parents = {place: _keys(content.keys) for place, content in inputs.items()}
    rows, drops, common = _keys(made.rows.keys), _keys(made.drops), set.intersection(*parents.values())
    for place, theirs in parents.items():
        for mine, keys in ((made.rows_place, rows), (made.drops_place, drops)):
            if strangers := sorted(key for key in keys if _origin(key, theirs, fans_out) is None):
                yield f"{mine}: holds {listed(strangers)}, which {place} does not"
    if lost := sorted(common - {_origin(key, common, fans_out) for key in rows | drops}):
        yield f"{made.name}: {listed(lost)} of {' and '.join(parents)} became neither a row nor a drop"
    if both := sorted(rows & drops):
        yield f"{made.drops_place}: drops {listed(both)}, which {made.rows_place} holds"
    if made.samples_in != len(common):
        have = f"have {len(common)} in common" if len(parents) > 1 else f"has {len(common)}"
        yield f"{made.name}: took in {made.samples_in} samples, but {' and '.join(parents)} {have}"


def _keys(keys: pa.Array | None) -> set[str]:
    return set(keys.to_pylist()) if keys is not None else set()


def _origin(key: str, parents: set[str], fans_out: bool) -> str | None:
    """The sample that a key stems from: its own, or where a stage fans out, one that it begins with."""
    while key not in parents:
        key = key.rpartition("-")[0] if fans_out else ""
        if not key:
            return None
    return key
