"""Progress for people: a bar per stage on a terminal, a plain line every so often elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from engine.shard import Outcome

_LINE_EVERY_S = 10.0


@dataclass
class _Stage:
    total: int
    done: int
    started_s: float
    said_s: float
    samples: int = 0
    drops: int = 0
    failed: int = 0
    worked: int = 0
    bar: int | None = None


@dataclass
class Progress:
    """Takes what happens to shards and shows it."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _bars: RichProgress | None = None

    def start(self, name: str, total: int, done: int, reasons: Sequence[str]) -> None:
        """A stage begins with `done` of its `total` shards up to date."""
        now = time.monotonic()
        self._stages[name] = _Stage(total, done, now, now)
        if done < total:
            self._say(f"{name}: {total - done} of {total} to do ({'; '.join(reasons)})")
            self._add_bar(name)
        else:
            self._say(f"{name}: up to date")

    def update(self, outcome: Outcome) -> None:
        """One shard of a stage has come to an end."""
        stage = self._stages.get(outcome.node)
        if stage is None:
            return
        stage.worked += outcome.status == "done"
        stage.done += outcome.status in ("done", "cached")
        stage.failed += outcome.status == "failed"
        stage.samples += outcome.samples_out
        stage.drops += sum(outcome.drops.values())
        if outcome.status == "failed":
            self._say(f"{outcome.node}: shard {outcome.shard} failed: {outcome.error.strip().splitlines()[-1]}")
        self._show(outcome.node, stage)

    def say(self, name: str, line: str) -> None:
        """One line from within a barrier."""
        self._say(f"{name}: {line}")

    def finish(self, name: str) -> None:
        """A stage has nothing left to do."""
        stage = self._stages.pop(name)
        if self._bars and stage.bar is not None:
            self._bars.remove_task(stage.bar)  # type: ignore[arg-type]
        if self._bars and not self._bars.tasks:
            self._bars.stop()
            self._bars = None
        if stage.worked or stage.failed:
            self._say(f"{name}: {_summary(stage)} in {time.monotonic() - stage.started_s:.1f} s")

    def _show(self, name: str, stage: _Stage) -> None:
        if self._bars and stage.bar is not None:
            self._bars.update(stage.bar, completed=min(stage.done, stage.total), detail=_summary(stage))  # type: ignore[arg-type]
        elif time.monotonic() - stage.said_s > _LINE_EVERY_S:
            stage.said_s = time.monotonic()
            self._say(f"{name}: {stage.done}/{stage.total} shards, {_summary(stage)}")

    def _add_bar(self, name: str) -> None:
        if not self.console.is_terminal:
            return
        if self._bars is None:
            left = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            right = (TextColumn("{task.fields[detail]}"), TimeElapsedColumn(), TimeRemainingColumn())
            self._bars = RichProgress(*left, *right, console=self.console)
            self._bars.start()
        stage = self._stages[name]
        stage.bar = self._bars.add_task(name, total=stage.total, completed=stage.done, detail="")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _summary(stage: _Stage) -> str:
    elapsed_s = max(time.monotonic() - stage.started_s, 1e-6)
    parts = [f"{stage.samples} samples", f"{stage.samples / elapsed_s:.1f}/s"]
    parts += [f"{stage.drops} dropped"] if stage.drops else []
    parts += [f"{stage.failed} shards failed"] if stage.failed else []
    return ", ".join(parts)
