"""Checks every receipt against what is stored: hashes, counts, keys, alignment, and objects nothing vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.columns import ColumnError
from engine.receipts import Receipt, column_digest, count_samples
from engine.rundir import RunDir

_UNVOUCHED = frozenset({"receipts", "checkpoints", ".tmp"})  # folders whose objects have no receipt by design


@dataclass
class Verification:
    """What was found: one line per problem, and the samples of every column."""

    problems: list[str] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_run(run: RunDir, threads: int = 4) -> Verification:
    """Reads every output of a run once."""
    found = Verification()
    receipts = {column: _readable_receipts(run, column, found) for column in run.columns()}
    flat = [receipt for column in receipts.values() for receipt in column.values()]
    with ThreadPoolExecutor(threads) as pool:
        for problems in pool.map(lambda receipt: list(_check(run, receipt, receipts)), flat):
            found.problems += problems
    found.problems += list(_orphans(run, flat))
    for column, by_shard in receipts.items():
        found.samples[column] = count_samples(by_shard.values())[1]
        found.problems += [f"{column}/{shard}: its last attempt failed" for shard in run.failures(column)]
    return found


def _readable_receipts(run: RunDir, column: str, found: Verification) -> dict[str, Receipt]:
    try:
        return run.receipts(column)
    except ValueError as error:
        found.problems.append(f"receipts/{column}: {error}")
        return {}


def _check(run: RunDir, receipt: Receipt, receipts: dict[str, dict[str, Receipt]]) -> Iterator[str]:
    name = f"{receipt.column}/{receipt.shard}"
    for output in filter(None, (receipt.output, receipt.drops_output)):
        sha256 = run.storage.hash_object(output.path)
        if sha256 is None:
            yield f"{name}: {output.path} is missing"
            return
        if sha256 != output.sha256:
            yield f"{name}: {output.path} is not what was written (sha256 {sha256[:12]}…, not {output.sha256[:12]}…)"
            return
    if receipt.output.path.endswith((".tar", ".parquet")):
        yield from _check_rows(run, receipt, name)
    for column, sha256 in receipt.basis.inputs.items():
        there = receipts.get(column, {})
        shard = there.get(receipt.shard)
        if sha256 not in {shard.output.sha256 if shard else "", column_digest(there.values())}:
            yield f"{name}: was made from another {column} than there is"


def _check_rows(run: RunDir, receipt: Receipt, name: str) -> Iterator[str]:
    try:
        count = sum(1 for _ in run.rows(receipt))
    except ColumnError as error:
        yield f"{name}: {error}"
        return
    if count != receipt.samples_out:
        yield f"{name}: holds {count} samples, its receipt says {receipt.samples_out}"


def _orphans(run: RunDir, receipts: list[Receipt]) -> Iterator[str]:
    """Objects of columns that no receipt names."""
    outputs = [output.path for receipt in receipts for output in (receipt.output, receipt.drops_output) if output]
    known, folders = set(outputs), tuple(f"{path}/" for path in outputs)
    for path in run.storage.list(""):
        if path.split("/")[0] in _UNVOUCHED or path in known or path.startswith(folders):
            continue
        if "/" in path:
            yield f"{path}: no receipt names it"
