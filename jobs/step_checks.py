"""What the steps know when a run is verified: packed shards against their assignment, selections against scores."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from threading import Lock
from typing import Any

import pyarrow.parquet as pq

from ..engine.planning.recipe import Node
from ..engine.rundir.receipts import Receipt
from ..engine.rundir.rundir import RunDir
from ..engine.steps.step import Step
from ..engine.verification.inspection import Content, inspect_object, listed
from ..engine.verification.recipe_check import StepChecks
from ..stages.pack import Pack
from ..stages.packing.assignment import ASSIGNMENT, BESIDE, INDEX, SAMPLES, first_rows, rows_of_shard
from ..stages.packing.index import read_index
from ..stages.packing.shard import PackShard
from ..stages.select import Select

_HEADER_BYTES = 512
_FIELDS = {
    "jpg": "jpg",
    "depth": "depth.png",
    "json": "json",
    "label_json": "json",
}  # of a part in its tar


class RunStepChecks(StepChecks):
    """Knows the steps of one run; is asked by several threads."""

    def __init__(self, run: RunDir) -> None:
        self._run, self._lock = run, Lock()
        self._assignments: dict[str, tuple[Receipt | None, bool]] = {}

    def maker(self, node: Node, receipt: Receipt) -> Step | None:
        """A packed shard's receipt names the stage that packs one shard, and the assignment that it followed."""
        if not isinstance(node.step, Pack) or receipt.shard in BESIDE:
            return node.step
        assignment, _ = self._assignment(receipt.column)
        return PackShard(receipt.column, assignment.output.path, assignment.output.sha256) if assignment else None

    def examine(self, node: Node, receipt: Receipt, contents: Mapping[str, Content]) -> Iterator[str]:
        """Labels hold distances, packed shards what was assigned to them, a selection only what has score and tag."""
        if node.step.name == "label":
            yield from _no_distances(self._run, receipt, contents[receipt.column])
        elif isinstance(node.step, Select):
            yield from _unknown_keys(node.step, receipt, contents)
        elif isinstance(node.step, Pack) and receipt.shard == INDEX:
            yield from _index_problems(self._run, receipt)
        elif isinstance(node.step, Pack) and receipt.shard == ASSIGNMENT:
            yield from _misplaced(self._run, receipt)
        elif isinstance(node.step, Pack) and receipt.shard == SAMPLES:
            yield from _misplaced_samples(self._run, receipt)
        elif isinstance(node.step, Pack) and self._assignment(receipt.column)[1]:
            yield from _not_as_assigned(self._run, receipt, contents[receipt.column])

    def _assignment(self, column: str) -> tuple[Receipt | None, bool]:
        """The receipt of a column's assignment, and whether the assignment is what was written."""
        with self._lock:
            if column not in self._assignments:
                receipt = self._run.receipt(column, ASSIGNMENT)
                found = inspect_object(self._run.storage, receipt.output.path) if receipt else None
                whole = bool(receipt and found and found.sha256 == receipt.output.sha256 and not found.flaws)
                self._assignments[column] = receipt, whole
            return self._assignments[column]


def _unknown_keys(step: Select, receipt: Receipt, contents: Mapping[str, Content]) -> Iterator[str]:
    mine = _keys(contents[receipt.column])
    for column in step.reads:
        if column in contents and (unknown := sorted(mine - _keys(contents[column]))):
            yield f"{receipt.output.path}: holds {listed(unknown)}, which {column}/{receipt.shard} does not"


def _no_distances(run: RunDir, receipt: Receipt, content: Content) -> Iterator[str]:
    """Labels that are beyond the range throughout, all of a shard's; mostly its first one shows that they are not."""
    labels = [member for member in content.members if member.field == "json"]
    for label in labels:
        summary = json.loads(run.storage.read_range(receipt.output.path, label.offset, label.bytes))
        if summary.get("beyond_range") != 1:
            return
    if labels:
        yield f"{receipt.output.path}: its {len(labels)} labels are all beyond the range throughout, without a distance"


def _keys(content: Content) -> set[str]:
    return set(content.keys.to_pylist()) if content.keys is not None else set()


def _not_as_assigned(run: RunDir, receipt: Receipt, content: Content) -> Iterator[str]:
    """The first sample of a packed shard that is not the one that was assigned, or whose parts have other sizes."""
    path, keys = receipt.output.path, content.keys.to_pylist() if content.keys is not None else []
    sizes = {(member.key, member.field): member.bytes for member in content.members}
    for key, row in zip_longest(keys, rows_of_shard(run, receipt.column, receipt.shard)):
        if row is None or key != row["key"]:
            expected = repr(row["key"]) if row else "no more"
            yield f"{path}: holds {key!r} where its assignment has {expected}"
            return
        for part in ("jpg", "depth"):
            if sizes.get((key, _FIELDS[part])) != row[part]["bytes"]:
                yield f"{path}: the {_FIELDS[part]} of {key!r} is not the one of {row[part]['path']}"
                return


def _misplaced(run: RunDir, receipt: Receipt) -> Iterator[str]:
    """The first sample that is not where the assignment says; one of every packed shard is looked up."""
    for row in first_rows(run, receipt.column):
        for part, field in _FIELDS.items():
            if row[part] and not _lies_there(run, row[part], f"{row['key']}.{field}"):
                yield f"{receipt.output.path}: {row['key']}.{field} is not where it says in {row[part]['path']}"
                return


def _misplaced_samples(run: RunDir, receipt: Receipt) -> Iterator[str]:
    """The first sample of a packed shard that is not where the table of samples says; one of each is looked up."""
    with run.storage.open(receipt.output.path) as stream:
        table = pq.ParquetFile(stream)
        for group in range(table.num_row_groups):
            for row in table.read_row_group(group).slice(0, 1).to_pylist():
                path = f"{receipt.column}/{row['shard']}"
                part = {"path": path, "offset": row["jpg_offset"], "bytes": row["jpg_bytes"]}
                if not _lies_there(run, part, f"{row['key']}.jpg"):
                    yield f"{receipt.output.path}: {row['key']}.jpg is not where it says in {path}"
                    return


def _lies_there(run: RunDir, part: Mapping[str, Any], name: str) -> bool:
    """Whether the header before some bytes of a tar names them; where a source is cut or gone, others say so."""
    try:
        data = run.storage.read_range(part["path"], part["offset"] - _HEADER_BYTES, _HEADER_BYTES)
        header = tarfile.TarInfo.frombuf(data, "utf-8", "surrogateescape")
    except (FileNotFoundError, EOFError):
        return True
    except tarfile.HeaderError:
        return False
    return (header.name, header.size) == (name, part["bytes"])


def _index_problems(run: RunDir, receipt: Receipt) -> Iterator[str]:
    """The index lists every packed shard, with what its receipt says."""
    column, path = receipt.column, receipt.output.path
    receipts = {shard: it for shard, it in run.receipts(column).items() if shard not in BESIDE}
    try:
        entries = {entry["name"].removesuffix(".tar"): entry for entry in read_index(run.storage, column)}
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{path}: is no index of packed shards"
        return
    for shard in sorted(entries.keys() | receipts.keys()):
        if shard not in receipts:
            yield f"{path}: lists {shard}, which has no receipt"
        elif shard not in entries:
            yield f"{path}: does not list {shard}"
        elif differs := _differences(entries[shard], receipts[shard]):
            yield f"{path}: says of {shard} {differs}"


def _differences(entry: Mapping[str, Any], receipt: Receipt) -> str:
    said = {"samples": receipt.samples_out, "sha256": receipt.output.sha256, "bytes": receipt.output.bytes}
    wrong = [
        f"{name} {entry.get(name)}, its receipt {value}" for name, value in said.items() if entry.get(name) != value
    ]
    return "; ".join(wrong)
