"""The receipts of one column as a table: a few hundred bytes a shard, and a Receipt only while someone looks at it."""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from engine.columns import canonical_json
from engine.receipts import Basis, Receipt, digest_hashes
from engine.storage import Entry, Output

_OUTPUT = pa.struct([("path", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64())])
SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("receipt_bytes", pa.int64()),  # of the receipt itself, as listed
        ("receipt_mtime_ns", pa.int64()),
        ("fingerprint", pa.string()),
        ("origin", pa.dictionary(pa.int32(), pa.string())),  # JSON of the basis less its inputs; few differ
        ("inputs", pa.map_(pa.string(), pa.string())),
        ("path", pa.string()),
        ("sha256", pa.string()),
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
_ROWS_AT_ONCE = 64


def receipt_row(receipt: Receipt, entry: Entry) -> dict[str, Any]:
    """A receipt, and what a listing says of it, as a row of the table."""
    basis, output = receipt.basis, receipt.output
    origin = {name: value for name, value in vars(basis).items() if name in _ORIGIN}
    return {
        **{name: getattr(receipt, name) for name in _PLAIN},
        "receipt_bytes": entry.bytes,
        "receipt_mtime_ns": entry.mtime_ns,
        "fingerprint": receipt.fingerprint,
        "origin": canonical_json(origin).decode(),
        "inputs": list(basis.inputs.items()),
        **vars(output),
        "drops": list(receipt.drops.items()),
        "drops_output": vars(receipt.drops_output) if receipt.drops_output else None,
    }


class Receipts(Mapping[str, Receipt]):
    """The receipts of a column by shard, sorted. Those that cannot be read are not among them, but are named."""

    def __init__(
        self,
        column: str,
        table: pa.Table,
        *,
        opened: int = 0,
        damaged: Mapping[str, str] | None = None,
        failed: Collection[str] = (),
        put_back: Collection[str] = (),
        claimed: Collection[str] = (),
    ) -> None:
        """`table` has SCHEMA and is sorted by shard."""
        self.column, self.table = column, table
        self.opened = opened  # how many had to be read one by one
        self.damaged = dict(damaged or {})  # shard -> what is wrong with its receipt
        self.failed = frozenset(failed)  # shards whose last attempt failed
        self.put_back = frozenset(put_back)  # shards that are marked to be tried again
        self.claimed = frozenset(claimed)  # shards that another attempt may be about to replace
        self._shards: list[str] = table["shard"].to_pylist()
        self._origins: dict[str, dict[str, Any]] = {}
        self._decoded: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __contains__(self, shard: object) -> bool:
        return self._find(shard) is not None

    def __getitem__(self, shard: str) -> Receipt:
        number = self._find(shard)
        if number is None:
            raise KeyError(shard)
        batch, row = divmod(number, _ROWS_AT_ONCE)  # whoever asks for one will ask for the next
        if batch != self._decoded[0]:
            self._decoded = batch, self.table.slice(batch * _ROWS_AT_ONCE, _ROWS_AT_ONCE).to_pylist()
        return self._receipt(self._decoded[1][row])

    def lookup(self, shards: Sequence[str], name: str) -> pa.ChunkedArray:
        """A field of the table for each of some shards; null for those that have no receipt."""
        return self.table[name].take(pa.array([self._find(shard) for shard in shards], pa.int64()))

    def only(self, mask: pa.Array) -> Receipts:
        """Those receipts whose row of `mask` is true."""
        kept = self.table.filter(mask)
        return Receipts(
            self.column, kept, damaged=self.damaged, failed=self.failed, put_back=self.put_back, claimed=self.claimed
        )

    @cached_property
    def digest(self) -> str:
        """What stands for the whole column in the basis of a barrier."""
        return digest_hashes(zip(self._shards, self.table["sha256"].to_pylist(), strict=True))

    @property
    def samples(self) -> tuple[int, int]:
        """Samples in and out. Where there are tar shards, tables and indices beside them hold none."""
        in_tar = [path.endswith(".tar") for path in self.table["path"].to_pylist()]
        counted = self.table.filter(pa.array(in_tar)) if any(in_tar) else self.table
        return sum(counted["samples_in"].to_pylist()), sum(counted["samples_out"].to_pylist())

    @property
    def drops(self) -> dict[str, int]:
        """Drops of the column by code, sorted by code."""
        drops = self.table["drops"].combine_chunks()
        counted = (
            pa.table({"code": drops.keys, "samples": drops.items}).group_by("code").aggregate([("samples", "sum")])
        )
        return {row["code"]: row["samples_sum"] for row in counted.sort_by("code").to_pylist()}

    def _find(self, shard: object) -> int | None:
        if not isinstance(shard, str):
            return None
        number = bisect_left(self._shards, shard)
        return number if self._shards[number : number + 1] == [shard] else None

    def _receipt(self, row: Mapping[str, Any]) -> Receipt:
        basis = Basis(**self._origin(row["origin"]), inputs=dict(row["inputs"]))
        vars(basis)["fingerprint"] = row["fingerprint"]  # was compared with the basis when the receipt was read
        return Receipt(
            column=self.column,
            **{name: row[name] for name in _PLAIN},
            basis=basis,
            output=Output(row["path"], row["sha256"], row["bytes"]),
            drops=dict(row["drops"]),
            drops_output=Output(**row["drops_output"]) if row["drops_output"] else None,
        )

    def _origin(self, text: str) -> dict[str, Any]:
        if text not in self._origins:
            self._origins[text] = json.loads(text)
        return self._origins[text]


class Vouched(NamedTuple):
    """The receipts of a column that agree with its outputs, and why each of the others counts for nothing."""

    stated: Receipts  # all of them
    receipts: Receipts  # those that agree
    refused: dict[str, str]  # shard -> why, in words


def vouched_for(
    receipts: Receipts,
    outputs: Mapping[str, Entry],
    drops: Mapping[str, Entry] | None,
    fits: Callable[[Receipt], bool],
) -> Vouched:
    """Compares receipts with a listing of their column, by size.

    With `drops`, a listing of its drops, these are compared as well, and nothing may be newer than the receipt: it
    may have been written by an attempt that had been given up for lost. Claimed shards are looked into: `fits` says
    whether they are what their receipts say.
    """
    column, found = receipts.column, _places(receipts.column, outputs)
    refused = dict.fromkeys(receipts.damaged, "its receipt is damaged")
    names = ("shard", "path", "bytes", "receipt_mtime_ns", "drops_output")
    for shard, path, size, mtime_ns, dropped in zip(*(receipts.table[n].to_pylist() for n in names), strict=True):
        latest_ns = sys.maxsize if drops is None else mtime_ns
        flaw = _flaw(found.get(path, _NOTHING), size, latest_ns)  # a folder without files is nowhere
        if drops is not None and dropped and not flaw:
            place = dropped["path"].removeprefix(f"drops/{column}/")
            flaw = _flaw(drops.get(place, _NOTHING), dropped["bytes"], latest_ns)
        if not flaw and shard in receipts.claimed and not fits(receipts[shard]):
            flaw = "was replaced by another attempt"
        if flaw:
            refused[shard] = f"its output {flaw}"
    mask = pa.array([shard not in refused for shard in receipts], pa.bool_())
    return Vouched(receipts, receipts.only(mask) if refused else receipts, refused)


def _flaw(there: Entry, size: int, latest_ns: int) -> str:
    if there.bytes != size:
        return "is missing" if there == _NOTHING else "has another size than was written"
    return "is newer than its receipt" if there.mtime_ns > latest_ns else ""


def _places(column: str, outputs: Mapping[str, Entry]) -> dict[str, Entry]:
    """What lies where, by path in the run: files, and folders with all that is below them."""
    found: dict[str, Entry] = {}
    for name, entry in outputs.items():
        found[f"{column}/{name}"] = entry
        top, slash, _ = name.partition("/")
        if slash:
            before = found.get(f"{column}/{top}", _NOTHING)
            found[f"{column}/{top}"] = Entry(before.bytes + entry.bytes, max(before.mtime_ns, entry.mtime_ns))
    return found


_NOTHING = Entry(0, 0)
