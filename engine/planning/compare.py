"""Why shards would run: what their receipts say against what they would be made from now."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..rundir.receipt_table import Receipts, Validated
from ..rundir.receipts import Basis, Fingerprints
from ..steps.step import Step


def why_pending(
    done: Validated, shards: Sequence[str], basis: Basis, inputs: Iterable[Mapping[str, str] | None]
) -> Iterator[str]:
    """Why each shard would run, in words; empty for one that is up to date.

    Args:
        basis: what the outputs depend on, the same for all shards but for its inputs.
        inputs: column to hash of what each shard reads; None where some of it is missing.
    """
    receipts, fingerprints = done.receipts, Fingerprints(basis)
    stated = receipts.lookup(shards, "fingerprint")
    for shard, fingerprint, hashes in zip(shards, stated, inputs, strict=True):
        if hashes is None:
            yield "its input is missing"
        elif shard in done.refused:
            yield done.refused[shard]
        elif fingerprint is None:
            yield "its last attempt failed" if shard in receipts.failed else "new"
        elif fingerprint.hex() != fingerprints.of(hashes):
            wanted = dataclasses.replace(basis, inputs=dict(hashes))
            yield ", ".join(wanted.differences(receipts[shard].basis)) or "changed"
        elif shard in receipts.marked:
            yield "put back"
        else:
            yield "its last attempt failed" if shard in receipts.failed else ""


def input_hashes(step: Step, columns: Mapping[str, Receipts], shards: Sequence[str]) -> Iterator[dict[str, str] | None]:
    """The hashes of what each shard of a step reads, by column; None where a receipt is missing."""
    hashes = [receipts.lookup(shards, "sha256") for receipts in columns.values()]
    rows: Iterable[Sequence[Any]] = zip(*hashes, strict=True) if hashes else [()] * len(shards)
    for row in rows:
        there: dict[str, str] = {c: sha256.hex() for c, sha256 in zip(columns, row, strict=True) if sha256}
        yield there if len(there) == len(step.shard_reads(there)) else None
