"""`dap status`: shards, samples and drops of every column; `--watch` follows them from anywhere that sees the run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time

from rich.table import Table

from ...engine.execution.worker_log import FOLDER
from ...engine.planning.own_steps import OwnStepError
from ...engine.planning.plan import Planner
from ...engine.planning.status import ColumnStatus, column_status, stated_status
from ...engine.quantities import duration
from ...engine.rundir.holder import SILENCE_S, Holder, holders
from ...engine.rundir.rundir import RunDir
from ..errors import EXIT_DONE, UsageError
from ..job import check_run_dir, open_saved_job
from ..tables import people_console, show_table

_LOOK_EVERY_S = 2.0
_MOST_TIME_LOOKING = 0.2  # of a watch: a large run takes seconds to look at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run-dir", required=True, metavar="URI")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--watch", action="store_true", help="show it again as it changes, until the run has ended")


def main(arguments: argparse.Namespace) -> int:
    """Prints a row per column, or one JSON document; or follows a run."""
    if arguments.json and arguments.watch:
        raise UsageError("--json is one document, and --watch is many")
    run = RunDir(check_run_dir(arguments.run_dir))
    if arguments.watch:
        return _watch(run)
    statuses = _statuses(run)
    logs = run.storage.address(FOLDER)
    if arguments.json:
        columns = {name: dataclasses.asdict(status) for name, status in statuses.items()}
        print(json.dumps({"columns": columns, "logs": logs}))
        return EXIT_DONE
    _show(run, statuses)
    print(f"logs of the workers: {logs}")
    return EXIT_DONE


def _statuses(run: RunDir) -> dict[str, ColumnStatus]:
    try:
        job = open_saved_job(run)
        return column_status(run, Planner(job.graph, run).plan(job.nodes))
    except OwnStepError as error:  # as on another machine than that of the run
        print(f"dap status: {error}; the receipts alone say this:", file=sys.stderr)
        return stated_status(run)


def _show(run: RunDir, statuses: dict[str, ColumnStatus]) -> None:
    table = Table("column", "shards", "samples in", "samples out", "drops", "failed", "pace", title=run.uri)
    for name, status in statuses.items():
        table.add_row(name, *_row(status))
    show_table(table)


def _watch(run: RunDir) -> int:
    """Shows the run as it changes: a table on a terminal, else lines. One that is not going on is waited for."""
    console, watch, shown = people_console(), _Holders(run), dict[str, str]()
    while True:
        began_s = time.monotonic()
        working = watch.look()  # before the columns: what is shown last is what the run has left
        statuses = _statuses(run) if run.storage.size("run.yaml") is not None else {}
        lines = {name: f"{name}: {_line(status)}" for name, status in statuses.items()}
        lines[""] = f"held by {working[0]}" if working else "nobody works in it"
        if console.is_terminal and lines != shown:
            console.clear()
            _show(run, statuses)
        for name, line in lines.items():
            if shown.get(name) != line and not (console.is_terminal and name):
                print(line, flush=True)
        shown = lines
        if not working and (watch.has_seen or _is_complete(statuses)):
            return EXIT_DONE
        time.sleep(max(_LOOK_EVERY_S, (time.monotonic() - began_s) / _MOST_TIME_LOOKING))


class _Holders:
    """Who works in a run, by claims that are written anew; of drivers elsewhere nothing else is known."""

    def __init__(self, run: RunDir) -> None:
        self._storage, self.has_seen = run.storage, False
        self._beats: dict[str, tuple[int, float]] = {}

    def look(self) -> list[Holder]:
        """Those that live, or that have not been silent for long."""
        now_s, claims = time.monotonic(), holders(self._storage)
        for name, (_, entry) in claims.items():
            if name not in self._beats or self._beats[name][0] != entry.mtime_ns:
                self._beats[name] = entry.mtime_ns, now_s
        working = [
            holder
            for name, (holder, _) in claims.items()
            if not holder.has_ended and now_s - self._beats[name][1] < SILENCE_S
        ]
        self.has_seen |= bool(working)
        return working


def _is_complete(statuses: dict[str, ColumnStatus]) -> bool:
    return bool(statuses) and all(status.shards_done == status.shards_total for status in statuses.values())


def _line(status: ColumnStatus) -> str:
    shards, samples_in, samples_out, drops, failed, pace = _row(status)
    parts = [f"{shards} shards", f"{samples_in} in", f"{samples_out} out"]
    parts += [f"dropped {drops}"] if drops else []
    parts += [f"failed {failed}"] if failed else []
    return ", ".join([*parts, pace] if pace else parts)


def _row(status: ColumnStatus) -> tuple[str, ...]:
    total = "?" if status.shards_total is None else str(status.shards_total)
    drops = ", ".join(f"{code} {count}" for code, count in sorted(status.drops.items()))
    shards = f"{status.shards_done}/{total}"
    failed = ", ".join(status.failed[:5]) + (f" and {len(status.failed) - 5} more" if len(status.failed) > 5 else "")
    return shards, str(status.samples_in), str(status.samples_out), drops, failed, _pace(status)


def _pace(status: ColumnStatus) -> str:
    if status.samples_per_s is None or status.left_s is None:
        return ""
    return f"{status.samples_per_s:.3g}/s, {duration(status.left_s)} left"
