"""Names in the receipts folder: where a shard's receipt, failure and mark lie, and how a listing tells them apart."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from ..storage.storage import Entry, Storage

_RECEIPT, _FAILURE, _MARK, _CLAIMS = ".json", ".error.json", ".retry.json", ".claims"
_JSON, _OTHER_JSON = r"^[^/]*\.json$", r"\.(error|retry)\.json$"


def receipt_path(column: str, shard: str) -> str:
    """Place of the receipt of a shard."""
    return f"receipts/{column}/{shard}{_RECEIPT}"


def error_path(column: str, shard: str) -> str:
    """Place of the traceback of a shard whose last attempt failed."""
    return f"receipts/{column}/{shard}{_FAILURE}"


def retry_path(column: str, shard: str) -> str:
    """Place of the mark of a shard some of whose drops are to be tried again."""
    return f"receipts/{column}/{shard}{_MARK}"


def claim_path(column: str, shard: str, attempt: str = "") -> str:
    """Place of the claim of one attempt to commit a shard (see `commit`); without an attempt, the folder of all."""
    return f"receipts/{column}/{shard}{_CLAIMS}/{attempt}"


def is_claim(path: str) -> bool:
    """Whether a path is a claim, or the trace of one."""
    return f"{_CLAIMS}/" in path


def index_folder(column: str) -> str:
    """Folder of the parts of the index of a column's receipts."""
    return f".index/{column}"


@dataclass(frozen=True)
class Listing:
    """What lies in the receipts folder of a column, by shard, told apart by the suffixes of the names.

    A failure older than the receipt of its shard does not count: a later attempt made it good.
    """

    receipts: pa.Table  # shard, bytes, mtime_ns; sorted by shard
    failures: dict[str, Entry] = field(default_factory=dict)  # files with tracebacks
    marks: dict[str, Entry] = field(default_factory=dict)  # of shards to be tried again
    claims: dict[str, Entry] = field(default_factory=dict)  # of attempts that may be running

    @staticmethod
    def of(storage: Storage, column: str) -> Listing:
        """Lists the folder once."""
        table = storage.listing(f"receipts/{column}")
        is_json, is_other = (pc.match_substring_regex(table["name"], pattern) for pattern in (_JSON, _OTHER_JSON))
        is_receipt = pc.and_not(is_json, is_other)
        found = Listing(_by_shard(table.filter(is_receipt)))
        kinds = {_FAILURE: found.failures, _MARK: found.marks, _CLAIMS: found.claims}
        for row in table.filter(pc.invert(is_receipt)).to_pylist():
            name = row["name"].partition("/")[0] if is_claim(row["name"]) else row["name"]
            suffix = next((suffix for suffix in kinds if name.endswith(suffix)), None)
            if suffix and "/" not in name:
                kinds[suffix][name.removesuffix(suffix)] = Entry(row["bytes"], row["mtime_ns"])
        return found

    @property
    def failed(self) -> list[str]:
        """Shards whose last attempt failed, sorted."""
        shards = sorted(self.failures)
        place = pc.index_in(pa.array(shards, pa.string()), value_set=self.receipts["shard"])
        done_ns = self.receipts["mtime_ns"].take(place).to_pylist()
        return [s for s, ns in zip(shards, done_ns, strict=True) if ns is None or self.failures[s].mtime_ns >= ns]


def _by_shard(files: pa.Table) -> pa.Table:
    shards = pc.utf8_slice_codeunits(files["name"], 0, -len(_RECEIPT))
    table = files.set_column(0, "shard", shards)
    return table.take(pc.sort_indices(table["shard"]))
