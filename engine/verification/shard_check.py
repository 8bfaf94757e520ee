"""Checks one shard id in all columns that have it: each receipt against its objects, the columns against each other.

Every object is read once, in pieces, and of a shard's columns only the keys are held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from ..records.keys import ColumnError
from ..rundir.drops import count_codes, read_drops
from ..rundir.listing import receipt_path
from ..rundir.receipts import Receipt, read_receipt
from ..rundir.rundir import RunDir
from ..storage.storage import Output
from .alignment import ShardContent, misalignments
from .inspection import Content, inspect_object
from .recipe_check import RecipeCheck


class SeenReceipt(NamedTuple):
    """The part of a receipt that the checks of the whole run need."""

    column: str
    shard: str
    outputs: tuple[str, ...]
    sha256: str
    samples_out: int


class Reference(NamedTuple):
    """The hash of something that a receipt names and that lies outside of its shard id.

    `place` is a column that should be in the state `sha256`, or a single output of the run, such as `models/NAME`.
    """

    name: str
    place: str
    sha256: str
    shard: str  # the one of the column that a map stage reads; empty where all of it is meant


@dataclass
class Findings:
    """What was found for one shard id."""

    shard: str
    problems: list[str] = field(default_factory=list)
    seen: list[SeenReceipt] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)  # columns and shards of unreadable receipts
    references: list[Reference] = field(default_factory=list)
    first_keys: dict[str, pa.Array] = field(default_factory=dict)  # of rows that follow no other column's
    bytes: int = 0


class ShardCheck:
    """The checks of one shard id."""

    def __init__(self, run: RunDir, recipe: RecipeCheck, shard: str) -> None:
        self._run, self._recipe, self._shard = run, recipe, shard
        self._findings = Findings(shard)
        self._receipts: dict[str, Receipt] = {}
        self._contents: dict[str, Content] = {}  # of outputs that are as their receipts say, by column
        self._drops: dict[str, pa.Array] = {}

    def check(self, columns: Iterable[str]) -> Findings:
        """Reads all that the receipts of the shard name."""
        for column in columns:
            self._read_receipt(column)
        for receipt in self._receipts.values():
            self._read_output(receipt)
            self._read_drops(receipt)
        for receipt in self._receipts.values():
            self._compare_inputs(receipt)
            self._compare_recipe(receipt)
        return self._findings

    def _add_problem(self, problem: str) -> None:
        self._findings.problems.append(problem)

    def _read_receipt(self, column: str) -> None:
        path = receipt_path(column, self._shard)
        try:
            receipt = read_receipt(self._run.storage.read_bytes(path), column, self._shard)
            if not receipt.output.path.startswith(f"{column}/{self._shard}"):
                raise ColumnError(f"names {receipt.output.path}, the place of another shard")
        except (ColumnError, OSError) as error:
            self._add_problem(f"{path}: {error}")
            self._findings.damaged.append((column, self._shard))
            return
        self._receipts[column] = receipt
        outputs = tuple(output.path for output in (receipt.output, receipt.drops_output) if output)
        self._findings.seen.append(
            SeenReceipt(column, self._shard, outputs, receipt.output.sha256, receipt.samples_out)
        )

    def _read_output(self, receipt: Receipt) -> None:
        path, content = receipt.output.path, self._read(receipt.output)
        if content is None:
            return
        self._contents[receipt.column] = content
        if content.keys is not None and len(content.keys) != receipt.samples_out:
            self._add_problem(f"{path}: holds {len(content.keys)} samples, its receipt says {receipt.samples_out}")
        if self._recipe.has_order(receipt) and not content.keys_rise:
            self._add_problem(f"{path}: its keys do not rise")

    def _read_drops(self, receipt: Receipt) -> None:
        output = receipt.drops_output
        if output is None and receipt.drops:
            self._add_problem(f"{_name(receipt)}: counts drops {receipt.drops}, but names no table of them")
        elif output is None:
            self._drops[receipt.column] = pa.array([], pa.string())
        elif (content := self._read(output)) and content.keys is not None:
            self._drops[receipt.column] = content.keys
            if (codes := self._drop_codes(receipt)) != receipt.drops:
                self._add_problem(f"{output.path}: holds drops {codes}, its receipt says {receipt.drops}")

    def _drop_codes(self, receipt: Receipt) -> dict[str, int] | None:
        try:
            return count_codes(read_drops(self._run, receipt))
        except (ColumnError, KeyError):
            return None  # a table, but not one of drops

    def _read(self, output: Output) -> Content | None:
        """What an object holds; None, and said why, if it is not what was written."""
        content = inspect_object(self._run.storage, output.path)
        if content is None:
            self._add_problem(f"{output.path}: is missing")
            return None
        self._findings.bytes += content.bytes
        wrong = [] if content.sha256 in ("", output.sha256) else [_difference(content, output)]
        wrong += content.flaws
        if wrong:
            self._add_problem(f"{output.path}: {'; '.join(wrong)}")
        return None if wrong else content

    def _compare_inputs(self, receipt: Receipt) -> None:
        """Compares a shard with those that it was made from; what is not of this shard is left for later."""
        elsewhere = [column for column in receipt.basis.inputs if not self._is_present(receipt, column)]
        for column in elsewhere:
            follows = self._shard if self._recipe.follows(receipt) else ""
            self._findings.references.append(Reference(_name(receipt), column, receipt.basis.inputs[column], follows))
        rows = self._contents.get(receipt.column)
        if rows is None or rows.keys is None:
            return
        if receipt.basis.inputs and not elsewhere:
            self._findings.problems += self._misalignments(receipt, rows)
        elif self._recipe.has_order(receipt):
            self._findings.first_keys[receipt.column] = rows.keys

    def _is_present(self, receipt: Receipt, column: str) -> bool:
        there = self._receipts.get(column)
        return there is not None and there.output.sha256 == receipt.basis.inputs[column]

    def _misalignments(self, receipt: Receipt, rows: Content) -> list[str]:
        inputs = {self._receipts[column].output.path: self._contents.get(column) for column in receipt.basis.inputs}
        whole = {path: content for path, content in inputs.items() if content and content.keys is not None}
        if len(whole) < len(inputs) or receipt.column not in self._drops:
            return []  # something is damaged, and was said
        drops_path = receipt.drops_output.path if receipt.drops_output else ""
        drops = self._drops[receipt.column]
        content = ShardContent(_name(receipt), receipt.samples_in, receipt.output.path, rows, drops_path, drops)
        return list(misalignments(content, whole))

    def _compare_recipe(self, receipt: Receipt) -> None:
        self._findings.problems += self._recipe.differences(receipt)
        if receipt.column in self._contents:
            self._findings.problems += self._recipe.examine(receipt, self._contents)
        for place, sha256 in self._recipe.assets_of_run(receipt).items():
            self._findings.references.append(Reference(_name(receipt), place, sha256, ""))


def _name(receipt: Receipt) -> str:
    return f"{receipt.column}/{receipt.shard}"


def _difference(content: Content, output: Output) -> str:
    if content.bytes != output.bytes:
        return f"is not what was written ({content.bytes} bytes, not {output.bytes})"
    return f"is not what was written (sha256 {content.sha256[:12]}…, not {output.sha256[:12]}…)"
