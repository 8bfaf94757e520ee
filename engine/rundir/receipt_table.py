"""The receipts of one column as an arrow table: a few hundred bytes a shard; Receipt objects are made on access."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ..storage.hashing import LIVE, canonical_json
from ..storage.storage import Entry, Output
from .receipts import Basis, Receipt, digest_hashes

_HASH = pa.binary(32)  # the digest itself, half as long as its hexadecimal form
_OUTPUT = pa.struct([("path", pa.string()), ("sha256", _HASH), ("bytes", pa.int64())])
SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("receipt_bytes", pa.int64()),  # of the receipt itself, as listed
        ("receipt_mtime_ns", pa.int64()),
        ("fingerprint", _HASH),
        ("origin", pa.dictionary(pa.int32(), pa.string())),  # JSON of the basis, its inputs by name alone; few differ
        ("inputs", pa.list_(_HASH)),
        ("path", pa.string()),
        ("sha256", _HASH),
        ("bytes", pa.int64()),
        ("samples_in", pa.int64()),
        ("samples_out", pa.int64()),
        ("drops", pa.map_(pa.string(), pa.int64())),
        ("drops_output", _OUTPUT),
        ("seconds", pa.float64()),
        ("attempt", pa.int64()),
    ]
)
_PLAIN = ("shard", "samples_in", "samples_out", "seconds", "attempt")
_ORIGIN = ("step", "version", "settings", "external", "assets")
_ROWS_AT_ONCE, _SHARDS_AT_ONCE = 64, 10_000


def receipt_row(receipt: Receipt, entry: Entry) -> dict[str, Any]:
    """A receipt, and what a listing says of it, as a row of the table."""
    basis, output = receipt.basis, receipt.output
    origin = {name: value for name, value in vars(basis).items() if name in _ORIGIN} | {"inputs": [*basis.inputs]}
    return {
        **{name: getattr(receipt, name) for name in _PLAIN},
        "receipt_bytes": entry.bytes,
        "receipt_mtime_ns": entry.mtime_ns,
        "fingerprint": bytes.fromhex(receipt.fingerprint),
        "origin": canonical_json(origin).decode(),
        "inputs": [bytes.fromhex(sha256) for sha256 in basis.inputs.values()],
        **_packed(output),
        "drops": list(receipt.drops.items()),
        "drops_output": _packed(receipt.drops_output) if receipt.drops_output else None,
    }


def _packed(output: Output) -> dict[str, Any]:
    return {**vars(output), "sha256": bytes.fromhex(output.sha256)}


def _unpacked(row: Mapping[str, Any]) -> Output:
    return Output(row["path"], row["sha256"].hex(), row["bytes"])


class Receipts(Mapping[str, Receipt]):
    """The receipts of a column by shard, sorted. Those that cannot be read are not among them, but are named."""

    def __init__(
        self,
        column: str,
        table: pa.Table,
        *,
        opened: int = 0,
        parts: Sequence[str] = (),
        damaged: Mapping[str, str] | None = None,
        failed: Collection[str] = (),
        marked: Collection[str] = (),
        claimed: Collection[str] = (),
    ) -> None:
        """`table` has SCHEMA and is sorted by shard."""
        self.column, self.table = column, table
        self.opened = opened  # how many had to be read one by one
        self.parts = parts  # names of the parts of the index that was used
        self.damaged = dict(damaged or {})  # shard -> what is wrong with its receipt
        self.failed = frozenset(failed)  # shards whose last attempt failed
        self.marked = frozenset(marked)  # shards that are marked to be tried again
        self.claimed = frozenset(claimed)  # shards that another attempt may be about to replace
        self._shards = table["shard"].combine_chunks()
        self._origins: dict[str, dict[str, Any]] = {}
        self._decoded: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[str]:
        return _each(self._shards)

    def __contains__(self, shard: object) -> bool:
        return isinstance(shard, str) and (shard in self._decoded or self._find(shard) is not None)

    def __getitem__(self, shard: str) -> Receipt:
        if shard not in self._decoded:
            self._decoded = self._around(shard)
        return self._receipt(self._decoded[shard])

    def lookup(self, shards: Sequence[str], name: str) -> Iterator[Any]:
        """A field of the table for each of some shards, hashes as bytes; None for those that have no receipt."""
        places = pc.index_in(pa.array(shards, pa.string()), value_set=self._shards)
        for first in range(0, len(shards), _SHARDS_AT_ONCE):
            yield from self.table[name].take(places.slice(first, _SHARDS_AT_ONCE)).to_pylist()

    def without(self, shards: Collection[str]) -> Receipts:
        """The receipts of all other shards."""
        if not shards:
            return self
        kept = self.table.filter(pc.invert(pc.is_in(self.table["shard"], value_set=pa.array(shards, pa.string()))))
        return Receipts(
            self.column, kept, damaged=self.damaged, failed=self.failed, marked=self.marked, claimed=self.claimed
        )

    @cached_property
    def digest(self) -> str:
        """The hash of the whole column, for the basis of a barrier."""
        hashes = (sha256.hex() for sha256 in _each(self.table["sha256"]))
        return digest_hashes(zip(self, hashes, strict=True))

    @property
    def samples(self) -> tuple[int, int]:
        """Samples in and out. Where there are tar shards, tables and indices beside them hold none."""
        in_tar = pc.ends_with(self.table["path"], ".tar")
        counted = self.table.filter(in_tar) if pc.any(in_tar).as_py() else self.table
        return tuple(pc.sum(counted[name], min_count=0).as_py() for name in ("samples_in", "samples_out"))

    @property
    def drops(self) -> dict[str, int]:
        """Drops of the column by code, sorted by code."""
        drops = self.table["drops"].combine_chunks()
        counted = (
            pa.table({"code": drops.keys, "samples": drops.items}).group_by("code").aggregate([("samples", "sum")])
        )
        return {row["code"]: row["samples_sum"] for row in counted.sort_by("code").to_pylist()}

    def _find(self, shard: str) -> int | None:
        number = bisect_left(range(len(self)), shard, key=lambda n: self._shards[n].as_py())
        return number if self._shards[number : number + 1].to_pylist() == [shard] else None

    def _around(self, shard: str) -> dict[str, dict[str, Any]]:
        """The rows of a shard and of its neighbours, which are mostly asked for next."""
        number = self._find(shard)
        if number is None:
            raise KeyError(shard)
        rows = self.table.slice(number - number % _ROWS_AT_ONCE, _ROWS_AT_ONCE).to_pylist()
        return {row["shard"]: row for row in rows}

    def _receipt(self, row: Mapping[str, Any]) -> Receipt:
        origin = self._origin(row["origin"])
        hashes = (sha256.hex() for sha256 in row["inputs"])
        basis = Basis(**{**origin, "inputs": dict(zip(origin["inputs"], hashes, strict=True))})
        vars(basis)["fingerprint"] = row["fingerprint"].hex()  # was compared with the basis when the receipt was read
        return Receipt(
            column=self.column,
            **{name: row[name] for name in _PLAIN},
            basis=basis,
            output=_unpacked(row),
            drops=dict(row["drops"]),
            drops_output=_unpacked(row["drops_output"]) if row["drops_output"] else None,
        )

    def _origin(self, text: str) -> dict[str, Any]:
        if text not in self._origins:
            self._origins[text] = json.loads(text)
        return self._origins[text]


class Validated(NamedTuple):
    """The receipts of a column that agree with its outputs, and why each of the others does not count."""

    all_receipts: Receipts  # all of them
    receipts: Receipts  # those that agree
    refused: dict[str, str]  # shard -> why, in words


def validate_all(
    receipts: Receipts, outputs: pa.Table, drops: pa.Table | None, fits: Callable[[Receipt], bool]
) -> Validated:
    """Compares receipts with a listing of their column, by size.

    `drops`: a listing of the column's drops. With it, drops are compared too, and an object newer than its receipt does
    not agree: an attempt given up for lost may have written it. `fits` hashes the objects of shards that are claimed.
    """
    column, table = receipts.column, receipts.table
    flaws = _flaws(table, _places(column, outputs), by_mtime=drops is not None)
    if drops is not None:
        dropped = table.filter(pc.is_valid(table["drops_output"]))
        flaws = _flaws(_of_drops(dropped), _places(f"drops/{column}", drops), by_mtime=True) | flaws
    refused = dict.fromkeys(receipts.damaged, "its receipt is damaged")
    refused |= {shard: f"its output {flaw}" for shard, flaw in sorted(flaws.items())}
    for shard in sorted(receipts.claimed - refused.keys()):
        if shard in receipts and not fits(receipts[shard]):
            refused[shard] = "its output was replaced by another attempt"
    return Validated(receipts, receipts.without([*refused]), refused)


def _flaws(table: pa.Table, found: pa.Table, *, by_mtime: bool) -> dict[str, str]:
    """By shard, what a listing shows to be wrong with the object that a receipt names."""
    there = found.take(pc.index_in(table["path"], value_set=found["path"]))
    sizes, times_ns = (there[name].fill_null(0) for name in ("bytes", "mtime_ns"))  # a folder without files is nowhere
    differs = pc.not_equal(sizes, table["bytes"])
    newer = pc.greater(times_ns, table["receipt_mtime_ns"])
    flawed = pc.or_(differs, newer) if by_mtime else differs
    shards, *facts = (facts.filter(flawed).to_pylist() for facts in (table["shard"], differs, there["bytes"]))
    return {shard: _flaw(*each) for shard, *each in zip(shards, *facts, strict=True)}


def _flaw(differs: bool, size: int | None) -> str:
    if not differs:
        return "is newer than its receipt"
    return "is missing" if size is None else "has another size than was written"


def _of_drops(table: pa.Table) -> pa.Table:
    """The same receipts, naming their drops in place of their outputs."""
    path, _, size = table["drops_output"].combine_chunks().flatten()
    names = ["shard", "receipt_mtime_ns", "path", "bytes"]
    return pa.table([table["shard"], table["receipt_mtime_ns"], path, size], names=names)


def _places(folder: str, listed: pa.Table) -> pa.Table:
    """What lies where, as path, bytes and mtime_ns: a folder's files, and folders in it with all that is below them."""
    listed = listed.filter(pc.invert(pc.match_substring_regex(listed["name"], pattern=f"^[^/]*/{LIVE}")))
    tops = pc.replace_substring_regex(listed["name"], pattern="/.*", replacement="")
    table = listed.set_column(0, "path", pc.binary_join_element_wise(folder, tops, "/"))
    if not pc.any(pc.match_substring(listed["name"], "/")).as_py():
        return table
    sums = table.group_by("path", use_threads=False)
    return sums.aggregate([("bytes", "sum"), ("mtime_ns", "max")]).rename_columns(["path", "bytes", "mtime_ns"])


def _each(values: pa.Array | pa.ChunkedArray) -> Iterator[Any]:
    """The values as Python's, some at a time."""
    for first in range(0, len(values), _SHARDS_AT_ONCE):
        yield from values.slice(first, _SHARDS_AT_ONCE).to_pylist()
