"""A table of what a column dropped: by code, with examples."""

from __future__ import annotations

from collections import Counter

from rich.table import Table

from ....engine.records.sample import Drop
from ....engine.rundir.drops import read_drops
from ....engine.rundir.rundir import RunDir
from ...tables import show_table

_EXAMPLES = 3


def show_drops(run: RunDir, column: str) -> None:
    """Prints a row per code to stderr, the most frequent first. Opens no more tables of drops than examples need."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[Drop]] = {}
    for receipt in run.receipts(column).values():
        counts.update(receipt.drops)
        if any(len(examples.get(code, [])) < _EXAMPLES for code in receipt.drops):
            for drop in read_drops(run, receipt):
                examples.setdefault(drop.code, []).append(drop)
    table = Table("code", "dropped", "for example", title=f"drops of {column}")
    for code, count in counts.most_common():
        table.add_row(code, str(count), "\n".join(_words(drop) for drop in examples[code][:_EXAMPLES]))
    show_table(table, stderr=True)


def _words(drop: Drop) -> str:
    return f"{drop.key}: {drop.detail}" if drop.detail else drop.key
