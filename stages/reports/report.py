"""A step that measures something on whole columns, and leaves what it found in `reports/<report>`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.records.column import Column, FolderColumn
from ...engine.steps.barrier import Barrier, BarrierContext


class Report(Barrier):
    """Leaves figures for programs, a table and pictures for people. A kind says what is measured."""

    report: str

    @property
    def writes(self) -> Column:
        return FolderColumn("reports")

    @property
    def produces(self) -> str:
        return f"reports/{self.report}"

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.report]

    def publish(
        self,
        context: BarrierContext,
        figures: Mapping[str, Any],
        table: str,
        pictures: Mapping[str, bytes],
        samples: int,
    ) -> None:
        """Logs the table, and commits it as table.txt beside the figures (JSON documents by name) and the pictures."""
        for line in table.splitlines():
            context.log(line)
        with context.scratch() as scratch:
            folder = scratch / "report"
            folder.mkdir()
            (folder / "table.txt").write_text(table + "\n")
            for name, document in figures.items():
                (folder / name).write_text(json.dumps(document, indent=1) + "\n")
            for name, picture in pictures.items():
                (folder / name).write_bytes(picture)
            context.commit(self.report, folder, samples, samples)
