"""One training shard: gathers the parts that the assignment names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow.parquet as pq

from ...engine.records.column import Column, TarColumn
from ...engine.records.keys import ColumnError
from ...engine.records.sample import Drop, Row, Sample
from ...engine.records.tar import HEADER_BYTES, content_at
from ...engine.steps.step import SourceStage, StageContext
from ...engine.storage.storage import StorageError
from .assignment import shard_groups

_FIELDS = {"jpg": "jpg", "depth": "depth.png", "json": "json", "label_json": "json"}  # of a part in its tar
_READS = 16  # at a time, so that a store's answer is not waited for


@dataclass
class PackShard(SourceStage):
    """One training shard: what the assignment names, in its order. A part that is not there is an error."""

    name: ClassVar[str] = "pack-shard"

    column: str
    assignment_path: str
    assignment_sha256: str
    batch_size = 2 * _READS

    @property
    def writes(self) -> Column:
        return TarColumn(self.column, ("depth.png", "jpg", "json"), shuffled=True)

    def setup(self, context: StageContext) -> None:
        self._storage, self._reads = context.storage, ThreadPoolExecutor(_READS)
        self._assignment = pq.ParquetFile(self._storage.open(self.assignment_path))
        self._groups = shard_groups(self._assignment)

    def teardown(self) -> None:
        if hasattr(self, "_reads"):
            self._reads.shutdown()

    def shards(self) -> Sequence[str]:
        return []  # those of the assignment, which the barrier has read

    def source(self, shard: str) -> Iterator[Sample]:
        rows = self._assignment.read_row_group(self._groups[shard]).to_pylist()
        return (Sample(row["key"], {"assignment": row}) for row in rows)

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        yield from self._reads.map(self._row, batch)

    def _row(self, sample: Sample) -> Row:
        row = sample["assignment"]
        places = {part: row[part] for part in _FIELDS if row[part]}
        contents: dict[str, bytes] = {}
        for path in dict.fromkeys(place["path"] for place in places.values()):
            together = {part: place for part, place in places.items() if place["path"] == path}
            contents |= self._read_together(sample.key, path, together)
        info = {**self._json(contents, row, "json"), "source": row["source"]}
        if "label_json" in contents:
            info["label"] = self._json(contents, row, "label_json")
        return Row(sample.key, {"jpg": contents["jpg"], "depth.png": contents["depth"], "json": info})

    def _read_together(self, key: str, path: str, places: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
        """The parts of a sample that lie in one tar, where they stand side by side: one read."""
        start = min(place["offset"] for place in places.values()) - HEADER_BYTES
        end = max(place["offset"] + place["bytes"] for place in places.values())
        try:
            data = self._storage.peek(path, start, end - start)
            return {
                part: content_at(data, place["offset"] - start, place["bytes"], f"{key}.{_FIELDS[part]}")
                for part, place in places.items()
            }
        except (FileNotFoundError, ColumnError) as error:
            raise _changed(path, error) from error

    @staticmethod
    def _json(contents: Mapping[str, bytes], row: Mapping[str, Any], part: str) -> dict[str, Any]:
        try:
            return json.loads(contents[part])
        except ValueError as error:
            raise _changed(row[part]["path"], error) from error


def _changed(path: str, error: Exception) -> StorageError:
    """Not a drop, which would leave the sample out: the shard fails."""
    return StorageError(f"{path}: is not what the assignment saw: {error}")
