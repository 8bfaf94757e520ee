"""One training shard: gathers the parts that the assignment names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow.parquet as pq

from ...engine.records.column import Column, TarColumn
from ...engine.records.sample import Drop, Row, Sample
from ...engine.steps.step import SourceStage, StageContext
from ...engine.storage.storage import StorageError


@dataclass
class PackShard(SourceStage):
    """One training shard: what the assignment names, in its order. A part that is not there is an error."""

    name: ClassVar[str] = "pack-shard"

    column: str
    assignment_path: str
    assignment_sha256: str

    @property
    def writes(self) -> Column:
        return TarColumn(self.column, ("depth.png", "jpg", "json"), shuffled=True)

    def setup(self, context: StageContext) -> None:
        self._storage = context.storage

    def shards(self) -> Sequence[str]:
        return []  # those of the assignment, which the barrier has read

    def source(self, shard: str) -> Iterator[Sample]:
        with self._storage.open(self.assignment_path) as stream:
            rows = pq.read_table(stream, filters=[("shard", "=", shard)]).to_pylist()
        return (Sample(row["key"], {"assignment": row}) for row in rows)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            row = sample["assignment"]
            info = {**self._read_json(row["json"]), "source": row["source"]}
            if row["label_json"]:
                info["label"] = self._read_json(row["label_json"])
            yield Row(sample.key, {"jpg": self._read(row["jpg"]), "depth.png": self._read(row["depth"]), "json": info})

    def _read_json(self, part: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return json.loads(self._read(part))
        except ValueError as error:
            raise _changed(part, error) from error

    def _read(self, part: Mapping[str, Any]) -> bytes:
        try:
            return self._storage.read_range(part["path"], part["offset"], part["bytes"])
        except (FileNotFoundError, EOFError) as error:
            raise _changed(part, error) from error


def _changed(part: Mapping[str, Any], error: Exception) -> StorageError:
    """Not a drop, which would leave the sample out: the shard fails."""
    return StorageError(f"{part['path']}: is not what the assignment saw: {error}")
