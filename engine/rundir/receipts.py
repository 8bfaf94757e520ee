"""Receipts: a shard of a column is done, what it was made from, and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..records.keys import ColumnError
from ..storage.hashing import canonical_json
from ..storage.storage import Output

SOURCE = "source:"  # before the name of a module, among what is external
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Basis:
    """All that an output depends on. Its hash is the fingerprint; its parts say why a shard runs again."""

    step: str
    version: int
    settings: dict[str, Any]
    external: dict[str, Any]
    assets: dict[str, str]  # name -> sha256 of the weights (of a hub id: the id)
    inputs: dict[str, str]  # column -> sha256 of the object read, or of the whole column's listing

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the canonical form of the parts."""
        return Fingerprints(self).of(self.inputs)

    def differences(self, before: Basis) -> list[str]:
        """One phrase for each part that changed since `before`."""
        found = [] if self.step == before.step else [f"step {before.step} -> {self.step}"]
        if self.version != before.version:
            found.append(f"version {before.version} -> {self.version}")
        for part, phrase in (
            ("settings", "setting"),
            ("external", "source"),
            ("assets", "weights"),
            ("inputs", "input"),
        ):
            now, then = getattr(self, part), getattr(before, part)
            changed = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
            found += [f"{phrase} {name.removeprefix(SOURCE)} changed" for name in changed]
        return found


class Fingerprints:
    """Fingerprints of many bases that differ in their inputs alone; the common part is hashed once."""

    def __init__(self, basis: Basis) -> None:
        before = canonical_json({"assets": basis.assets, "external": basis.external})
        after = canonical_json({"settings": basis.settings, "step": basis.step, "version": basis.version})
        self._head = hashlib.sha256(before[:-1] + b',"inputs":')  # the canonical form of a basis, cut at its inputs
        self._tail = b"," + after[1:]

    def of(self, inputs: Mapping[str, str]) -> str:
        """The fingerprint of the basis with these inputs."""
        digest = self._head.copy()
        digest.update(canonical_json(inputs) + self._tail)
        return digest.hexdigest()


@dataclass(frozen=True)
class Receipt:
    """The proof that a shard is done; written after its outputs."""

    column: str
    shard: str
    basis: Basis
    output: Output
    samples_in: int
    samples_out: int
    drops: dict[str, int] = field(default_factory=dict)
    drops_output: Output | None = None
    seconds: float = 0.0
    attempt: int = 1

    @property
    def fingerprint(self) -> str:
        """What the output was made from; equal fingerprints mean equal bytes."""
        return self.basis.fingerprint

    @property
    def hashes(self) -> list[str]:
        """The sha256 of everything it names."""
        outputs = [self.output, self.drops_output] if self.drops_output else [self.output]
        return [*(output.sha256 for output in outputs), *self.basis.inputs.values()]

    def to_bytes(self) -> bytes:
        """Readable JSON; the fingerprint stands first, for people."""
        return json.dumps({"fingerprint": self.fingerprint, **dataclasses.asdict(self)}, indent=1).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Receipt:
        """Reads a receipt; raises ColumnError if it is damaged."""
        try:
            values = json.loads(data)
            stated = values.pop("fingerprint")
            receipt: Receipt = _build(Receipt, values)
            fits = receipt.fingerprint == stated
            if strange := [sha256 for sha256 in receipt.hashes if not _HASH.fullmatch(sha256)]:
                raise ValueError(f"{strange[0]!r} is no sha256")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ColumnError(f"damaged receipt: {error}") from error
        if not fits:
            raise ColumnError(f"damaged receipt of {receipt.column}/{receipt.shard}: its fingerprint does not fit")
        return receipt


def read_receipt(data: bytes, column: str, shard: str) -> Receipt:
    """The receipt of a shard; raises ColumnError if it is damaged, or another shard's."""
    receipt = Receipt.from_bytes(data)
    if (receipt.column, receipt.shard) != (column, shard):
        raise ColumnError(f"damaged receipt: it is that of {receipt.column}/{receipt.shard}")
    return receipt


def _build(kind: Any, value: Any) -> Any:
    """Decoded JSON as the type that an annotation names; raises one of many errors where it does not fit."""
    if kind is Any or (type(value) is kind and (kind is not int or 0 <= value < 2**63)):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is dict:
        return {key: _build(get_args(kind)[1], item) for key, item in value.items()}
    if get_origin(kind) is UnionType:
        return None if value is None else _build(get_args(kind)[0], value)
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{value!r} is not of type {kind.__name__}")
    hints = _hints(kind)  # a newer version of the package may have added fields
    return kind(**{name: _build(hints[name], item) for name, item in value.items() if name in hints})  # type: ignore[operator]


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def digest_hashes(hashes: Iterable[tuple[str, str]]) -> str:
    """sha256 of a whole column: of the hashes of its outputs in the order of their shards."""
    lines = sorted(f"{shard} {sha256}\n" for shard, sha256 in hashes)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
