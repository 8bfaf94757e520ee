"""The run directory: where columns, receipts, drops and failures lie, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from ..records.keys import ColumnError
from ..records.rows import merge_on_key, read_rows
from ..records.sample import Row, Sample
from ..storage.storage import Storage
from .index import read_receipts
from .listing import Listing, claim_path, error_path, receipt_path
from .receipt_table import Receipts, Validated, validate_all
from .receipts import Receipt, read_receipt


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
        """The receipt of a shard; None if it is not done, or if the receipt is damaged, which counts for nothing."""
        try:
            return read_receipt(self.storage.read_bytes(receipt_path(column, shard)), column, shard)
        except (FileNotFoundError, ColumnError):
            return None

    def receipts(self, column: str) -> Receipts:
        """All receipts of a column, from one listing and the index."""
        return read_receipts(self.storage, column)

    def size_matches(self, receipt: Receipt) -> bool:
        """Whether the output of a receipt is there, with the size that was written."""
        size = self.storage.size(receipt.output.path)
        if size is None:
            size = sum(entry.bytes for entry in self.storage.content(receipt.output.path).values())
        return size == receipt.output.bytes

    def validates(self, receipt: Receipt) -> bool:
        """Whether output and drops are there, not newer than the receipt, and not claimed by another attempt."""
        own = self.storage.info(receipt_path(receipt.column, receipt.shard))
        for output in filter(None, (receipt.output, receipt.drops_output)):
            single = self.storage.info(output.path)
            parts = [single] if single else list(self.storage.content(output.path).values())
            newest_ns = max((part.mtime_ns for part in parts), default=0)
            if own is None or sum(part.bytes for part in parts) != output.bytes or newest_ns > own.mtime_ns:
                return False
        return not self.storage.list(claim_path(receipt.column, receipt.shard))

    def hashes_match(self, receipt: Receipt) -> bool:
        """Whether the stored objects have the hashes of the receipt. Reads them whole."""
        outputs = filter(None, (receipt.output, receipt.drops_output))
        return all(self.storage.hash_object(output.path) == output.sha256 for output in outputs)

    def validated(self, column: str, *, by_mtime: bool) -> Validated:
        """The receipts of a column that agree with a listing of its outputs. `by_mtime`: and are not newer."""
        outputs = self.storage.listing(column)  # before the claims: whoever replaced an output had a claim before
        drops = self.storage.listing(f"drops/{column}") if by_mtime else None
        return validate_all(self.receipts(column), outputs, drops, self.hashes_match)

    def columns(self) -> list[str]:
        """Names of the columns that have a receipt or a failure."""
        return sorted({name.split("/")[0] for name in self.storage.list("receipts") if "/" in name})

    def failures(self, column: str) -> dict[str, str]:
        """Tracebacks of the shards whose last attempt failed, by shard, sorted."""
        found = {shard: self._traceback(column, shard) for shard in Listing.of(self.storage, column).failed}
        return {shard: traceback for shard, traceback in found.items() if traceback is not None}

    def _traceback(self, column: str, shard: str) -> str | None:
        path = error_path(column, shard)
        try:
            return str(json.loads(self.storage.read_bytes(path))["traceback"])
        except FileNotFoundError:
            return None  # made good since the listing
        except (ValueError, KeyError, TypeError):
            return f"{self.storage.address(path)}: damaged"

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
