"""Progress for people: a bar per stage on a terminal, a plain line every so often elsewhere. Always on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from ..meters import measure
from ..quantities import duration
from ..steps.outcome import Outcome, cause_line


@dataclass
class _Stage:
    total: int
    done: int
    by_shard: bool
    started_s: float
    samples: int = 0
    drops: int = 0
    failed: int = 0
    worked: int = 0
    bar: int | None = None

    def left_s(self) -> float:
        """How long the rest takes at the rate so far."""
        return (time.monotonic() - self.started_s) / self.worked * (self.total - self.done)


class _Lines(threading.Thread):
    """Says how far everything is, every so often, also while nothing ends."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(daemon=True)
        self._progress, self._stopped = progress, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stopped.wait(self._progress.every_s):
            self._progress.log_all()

    def stop(self) -> None:
        """No line after this."""
        self._stopped.set()
        self.join()


@dataclass
class Progress:
    """Takes what happens to shards and shows it."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    every_s: float = 10.0  # between lines where there is no terminal
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _bars: RichProgress | None = None
    _lines: _Lines | None = None

    def start(self, name: str, total: int, done: int, reasons: Mapping[str, int], *, by_shard: bool) -> None:
        """A step begins with `done` of its `total` shards up to date; one that is not done by shard shows no bar."""
        self._stages[name] = _Stage(total, done, by_shard, time.monotonic())
        measure("dap_running", done < total, stage=name)
        measure("dap_shards_left", total - done, stage=name)
        if done < total:
            self._print(f"{name}: {total - done} of {total} to do ({_words(reasons)})")
            if by_shard:
                self._show_from_now(name)
        else:
            self._print(f"{name}: up to date")

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
        measure("dap_shards_left", max(stage.total - stage.done, 0), stage=outcome.node)
        if outcome.status == "failed":
            self._print(f"{outcome.node}: shard {outcome.shard} failed: {cause_line(outcome.error)}")
        self._show(stage)

    def log(self, name: str, line: str) -> None:
        """One line from within a barrier."""
        self._print(f"{name}: {line}")

    def finish(self, name: str) -> None:
        """A stage has nothing left to do."""
        stage = self._stages.pop(name)
        measure("dap_running", 0, stage=name)
        if self._bars and stage.bar is not None:
            self._bars.remove_task(stage.bar)  # type: ignore[arg-type]
        if not any(other.by_shard for other in self._stages.values()):
            self.close()
        if stage.worked or stage.failed:
            self._print(f"{name}: {_summary(stage)} in {time.monotonic() - stage.started_s:.1f} s")

    def close(self) -> None:
        """Shows nothing any more, whatever has been left unfinished."""
        if self._bars:
            self._bars.stop()
        if self._lines:
            self._lines.stop()
        self._bars = self._lines = None

    def log_all(self) -> None:
        """One line for every stage that has work left."""
        for name, stage in list(self._stages.items()):
            if stage.by_shard and stage.done < stage.total:
                left = f", {duration(stage.left_s())} left" if stage.worked else ""
                self._print(f"{name}: {stage.done}/{stage.total} shards, {_summary(stage)}{left}")

    def _show(self, stage: _Stage) -> None:
        if self._bars and stage.bar is not None:
            self._bars.update(stage.bar, completed=min(stage.done, stage.total), detail=_summary(stage))  # type: ignore[arg-type]

    def _show_from_now(self, name: str) -> None:
        if not self.console.is_terminal:
            self._lines = self._lines or _Lines(self)
            return
        if self._bars is None:
            left = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            right = (TextColumn("{task.fields[detail]}"), TimeElapsedColumn(), TimeRemainingColumn())
            self._bars = RichProgress(*left, *right, console=self.console)
            self._bars.start()
        stage = self._stages[name]
        stage.bar = self._bars.add_task(name, total=stage.total, completed=stage.done, detail="")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _words(reasons: Mapping[str, int]) -> str:
    """Reasons, with their counts where there are several."""
    return "; ".join(f"{reason} {count}" if len(reasons) > 1 else reason for reason, count in reasons.items())


def _summary(stage: _Stage) -> str:
    elapsed_s = max(time.monotonic() - stage.started_s, 1e-6)
    parts = [f"{stage.samples} samples", f"{stage.samples / elapsed_s:.1f}/s"]
    parts += [f"{stage.drops} dropped"] if stage.drops else []
    parts += [f"{stage.failed} shards failed"] if stage.failed else []
    return ", ".join(parts)
