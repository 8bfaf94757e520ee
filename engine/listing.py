"""Names in the receipts folder: where a shard's receipt, failure and mark lie, and how a listing tells them apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.storage import Entry, Storage

_RECEIPT, _FAILURE, _MARK, _CLAIMS = ".json", ".error.json", ".retry.json", ".claims"


def receipt_path(column: str, shard: str) -> str:
    """Place of the receipt of a shard."""
    return f"receipts/{column}/{shard}{_RECEIPT}"


def error_path(column: str, shard: str) -> str:
    """Place of the traceback of a shard whose last attempt failed."""
    return f"receipts/{column}/{shard}{_FAILURE}"


def retry_path(column: str, shard: str) -> str:
    """Place of the mark of a shard of which something was put back."""
    return f"receipts/{column}/{shard}{_MARK}"


def claim_path(column: str, shard: str, attempt: str = "") -> str:
    """Place of the claim of an attempt that is about to replace a shard's objects, or of all claims to the shard."""
    return f"receipts/{column}/{shard}{_CLAIMS}/{attempt}"


def is_claim(path: str) -> bool:
    """Whether a path is the claim of an attempt."""
    return f"{_CLAIMS}/" in path


def index_path(column: str) -> str:
    """Place of the index of a column's receipts."""
    return f"receipts/{column}.index"


@dataclass(frozen=True)
class Listing:
    """What lies in the receipts folder of a column, by shard. The one place that knows how these files are told apart.

    A failure that is older than the receipt of its shard is over: its attempt was followed by a better one.
    """

    receipts: dict[str, Entry] = field(default_factory=dict)  # sorted by shard
    failures: dict[str, Entry] = field(default_factory=dict)  # tracebacks
    marks: dict[str, Entry] = field(default_factory=dict)  # of what was put back
    claims: dict[str, Entry] = field(default_factory=dict)  # of attempts that may be at work

    @staticmethod
    def of(storage: Storage, column: str) -> Listing:
        """Lists the folder once."""
        found = Listing()
        kinds = {_FAILURE: found.failures, _MARK: found.marks, _RECEIPT: found.receipts, _CLAIMS: found.claims}
        for name, entry in storage.entries(f"receipts/{column}").items():
            name = name.partition("/")[0] if is_claim(name) else name
            suffix = next((suffix for suffix in kinds if name.endswith(suffix)), None)
            if suffix and "/" not in name:
                kinds[suffix][name.removesuffix(suffix)] = entry
        return Listing(dict(sorted(found.receipts.items())), found.failures, found.marks, found.claims)

    @property
    def failed(self) -> list[str]:
        """Shards whose last attempt failed, sorted."""
        nothing = Entry(0, -1)
        return sorted(s for s, e in self.failures.items() if e.mtime_ns >= self.receipts.get(s, nothing).mtime_ns)
