"""A receipt says that a shard of a column is done, from what it was made, and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.columns import ColumnError, canonical_json
from engine.stage import Step
from engine.storage import Output


@dataclass(frozen=True)
class Basis:
    """All that an output depends on. Its hash is the fingerprint; its parts say why something runs again."""

    step: str
    version: int
    settings: dict[str, Any]
    external: dict[str, Any]
    assets: dict[str, str]  # name -> sha256 of the weights (of a hub id: the id)
    inputs: dict[str, str]  # column -> sha256 of the object read, or of the whole column's listing

    @property
    def fingerprint(self) -> str:
        """sha256 over the canonical form of the parts."""
        return hashlib.sha256(canonical_json(dataclasses.asdict(self))).hexdigest()

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
            found += [f"{phrase} {name} changed" for name in changed]
        return found


def basis_of(step: Step, assets: dict[str, str], inputs: dict[str, str]) -> Basis:
    """The basis of a step's output, given the hashes of its assets and inputs.

    A setting that names an asset is left out: what counts is the asset's content, wherever it lies.
    """
    plain = json.loads(canonical_json(step.settings()))  # a tuple of the recipe is a list in a receipt
    settings = _without(plain, list(step.assets().values()))
    return Basis(step.name, step.version, settings, step.external(), dict(assets), dict(inputs))


def _without(settings: dict[str, Any], places: list[str]) -> dict[str, Any]:
    nested = {key: _without(value, places) if isinstance(value, dict) else value for key, value in settings.items()}
    return {key: value for key, value in nested.items() if value not in places}


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

    def to_bytes(self) -> bytes:
        """Readable JSON; the fingerprint stands first, for people."""
        return json.dumps({"fingerprint": self.fingerprint, **dataclasses.asdict(self)}, indent=1).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Receipt:
        """Reads a receipt; raises ColumnError if it is damaged."""
        try:
            values = json.loads(data)
            stated = values.pop("fingerprint")
            drops_output = values.pop("drops_output")
            receipt = Receipt(
                **{
                    **values,
                    "basis": Basis(**values["basis"]),
                    "output": Output(**values["output"]),
                    "drops_output": Output(**drops_output) if drops_output else None,
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ColumnError(f"damaged receipt: {error}") from error
        if receipt.fingerprint != stated:
            raise ColumnError(f"damaged receipt of {receipt.column}/{receipt.shard}: its fingerprint does not fit")
        return receipt


def count_samples(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Samples in and out of a column. Where it has tar shards, tables and indices beside them hold none."""
    receipts = list(receipts)
    shards = [receipt for receipt in receipts if receipt.output.path.endswith(".tar")] or receipts
    return sum(receipt.samples_in for receipt in shards), sum(receipt.samples_out for receipt in shards)


def column_digest(receipts: Iterable[Receipt]) -> str:
    """sha256 of a whole column: of the hashes of its outputs in the order of their shards."""
    lines = sorted(f"{receipt.shard} {receipt.output.sha256}\n" for receipt in receipts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
