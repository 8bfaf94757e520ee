"""The run directory: where columns, receipts, drops and failures lie, and how they are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from engine.columns import ColumnError, merge_on_key, read_rows
from engine.receipts import Receipt
from engine.stage import Row, Sample
from engine.storage import Storage


@dataclass(frozen=True)
class RunDir:
    """One run below one URI."""

    uri: str

    @cached_property
    def storage(self) -> Storage:
        """The run's objects."""
        return Storage(self.uri)

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    def receipt(self, column: str, shard: str) -> Receipt | None:
        """The receipt of a shard, None if it is not done; raises ValueError for a damaged one."""
        try:
            return Receipt.from_bytes(self.storage.read_bytes(receipt_path(column, shard)))
        except FileNotFoundError:
            return None

    def receipts(self, column: str) -> dict[str, Receipt]:
        """All receipts of a column by shard, sorted."""
        folder = f"receipts/{column}"
        names = [name for name in self.storage.list(folder) if name.endswith(".json") and "/" not in name]
        names = [name for name in names if not name.endswith(".error.json")]
        data = self.storage.read_many([f"{folder}/{name}" for name in names])
        return {name.removesuffix(".json"): Receipt.from_bytes(item) for name, item in zip(names, data, strict=True)}

    def receipts_with_outputs(self, column: str) -> dict[str, Receipt]:
        """The receipts of a column less those whose output is gone, or not of the size that was written."""
        sizes: Counter[str] = Counter()
        for name, size in self.storage.list(column).items():
            for place in {name, name.split("/")[0]}:  # a file, and the folder that it is a part of
                sizes[f"{column}/{place}"] += size
        found = self.receipts(column)
        return {
            shard: receipt for shard, receipt in found.items() if sizes[receipt.output.path] == receipt.output.bytes
        }

    def holds(self, receipt: Receipt) -> bool:
        """Whether the output of a receipt is there, in the size that was written."""
        size = self.storage.size(receipt.output.path)
        if size is None:
            size = sum(self.storage.list(receipt.output.path).values())
        return size == receipt.output.bytes

    def vouches(self, receipt: Receipt) -> bool:
        """Whether the output of a receipt is not newer than it: else an attempt given up for lost may have replaced it."""
        output = self.storage.info(receipt.output.path)
        proof = self.storage.info(receipt_path(receipt.column, receipt.shard))
        return output is None or (proof is not None and output.mtime_ns <= proof.mtime_ns)

    def columns(self) -> list[str]:
        """Names of the columns that have a receipt or a failure."""
        return sorted({name.split("/")[0] for name in self.storage.list("receipts") if "/" in name})

    def failures(self, column: str) -> dict[str, str]:
        """Tracebacks of the shards whose last attempt failed, by shard."""
        folder = f"receipts/{column}"
        names = [name for name in self.storage.list(folder) if name.endswith(".error.json")]
        errors = (json.loads(self.storage.read_bytes(f"{folder}/{name}")) for name in names)
        return {error["shard"]: error["traceback"] for error in errors}

    def rows(self, receipt: Receipt) -> Iterator[Row]:
        """The rows of one shard of one column, read once from front to back."""
        with self.storage.open(receipt.output.path) as stream:
            yield from read_rows(receipt.output.path, stream)

    def table(self, receipt: Receipt) -> pa.Table:
        """One shard of a parquet column, whole; raises ColumnError if it is broken."""
        try:
            return pq.read_table(pa.BufferReader(self.storage.read_bytes(receipt.output.path)))
        except pa.ArrowException as error:
            raise ColumnError(f"{self.storage.address(receipt.output.path)}: broken parquet") from error

    def samples(self, receipts: Sequence[Receipt]) -> Iterator[Sample]:
        """The samples of one shard that all the given columns have, joined on the key."""
        with ExitStack() as stack:
            streams = {r.column: stack.enter_context(self.storage.open(r.output.path)) for r in receipts}
            rows = {r.column: read_rows(r.output.path, streams[r.column]) for r in receipts}
            for key, columns in merge_on_key(rows):
                yield Sample(key, columns)


def receipt_path(column: str, shard: str) -> str:
    """Place of the receipt of a shard."""
    return f"receipts/{column}/{shard}.json"


def error_path(column: str, shard: str) -> str:
    """Place of the traceback of a shard whose last attempt failed."""
    return f"receipts/{column}/{shard}.error.json"
