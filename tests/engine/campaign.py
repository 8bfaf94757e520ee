"""A command that is killed in part or whole at seeded instants, and given again if it cannot go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.cluster import Family, Nodes, Process, below

_LOOK_EVERY_S = 0.02
_PATIENCE_S = 150  # without a receipt: then it hangs
STOPS = ("head", "driver", "group")  # the command ends with these victims, and has to be given again
_RAYS_OWN = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE")  # a raylet's parts; and who does nothing


@dataclass(frozen=True)
class Kill:
    """Whom to kill, and when: so long after so many receipts are there."""

    victim: str  # see Disturbed
    receipts: int
    delay_s: float


class Disturbed:
    """A command for a run directory, as a process group of its own, on a Ray of its own or on given nodes.

    Victims: `child` (does a stage's work), `actor` (any of Ray Data's or ours), `raylet` (of a node that is not the
    head), `node` (with all that runs on it), `head` (of a Ray of its own), `driver` (alone) and `group`.
    """

    def __init__(self, command: Sequence[str], place: str, log: Path, nodes: Nodes | None = None) -> None:
        self._command, self._place, self._log, self._nodes = command, place, log, nodes
        self.family, self._done = Family(os.getpid()), dict[str, int]()
        self._start()

    def suffer(self, kill: Kill, rng: random.Random) -> None:
        """Waits for the instant and kills. The command is given again only if the victim is one that it needs."""
        self._await(kill.receipts)
        time.sleep(kill.delay_s)
        while not (victims := self._victims(kill.victim, rng)):
            self._check_that_it_runs()
            time.sleep(_LOOK_EVERY_S)
        self._check_that_it_runs()
        self._done |= receipts(self._place)
        after_s, title = time.monotonic() - self._began_s, victims[0].title[:70]
        for victim in victims:
            victim.kill()
        print(f"{after_s:.1f} s, {len(self._done)} receipts: killed {kill.victim} ({title})")
        if kill.victim in STOPS and self._status() != 0:
            self._start()
        else:
            assert kill.victim not in ("driver", "group"), "it cannot have ended well"  # the last steps need no Ray

    def finish(self) -> None:
        """Waits for the command to succeed. What had a receipt when something was killed has that very one still."""
        assert self._status() == 0, self._words()
        now = receipts(self._place)
        again = [path for path, time_ns in self._done.items() if now.get(path) != time_ns]
        assert again == [], "done again, although it had a receipt before the kill"

    def end(self) -> None:
        """Leaves nothing behind, whatever happened."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _start(self) -> None:
        environment: Mapping[str, str] = self._nodes.environment if self._nodes else {}
        plain = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, env={**plain, **environment}
            )
        self._began_s = time.monotonic()

    def _victims(self, victim: str, rng: random.Random) -> list[Process]:
        """The processes to kill, which are one thing; none if there is no such thing now."""
        driver, found = Process.of(self._process.pid), self._find(victim)
        if victim in ("driver", "group"):
            rest = [one for one in below(driver) if os.getpgid(one.pid) == driver.pid] if victim == "group" else []
            return [driver, *rest]
        if not found:
            return []
        chosen = rng.choice(found)
        return [chosen, *below(chosen)] if victim == "node" else [chosen]

    def _find(self, victim: str) -> list[Process]:
        if victim in ("raylet", "node"):
            return self._nodes.raylets() if self._nodes else []
        titles = {process: process.title for process in self.family.look()}
        if victim == "child":
            return [process for process, title in titles.items() if "-m dap_engine.engine.execution.worker" in title]
        if victim == "head":
            return [process for process, title in titles.items() if "gcs_server" in title or "raylet/raylet" in title]
        ours = (process for process, title in titles.items() if title.startswith("ray::"))
        return [process for process in ours if not titles[process].startswith(_RAYS_OWN)]

    def _await(self, count: int) -> None:
        while len(receipts(self._place)) < count:
            self._check_that_it_runs()
            time.sleep(_LOOK_EVERY_S)

    def _check_that_it_runs(self) -> None:
        assert self._process.poll() is None, f"ended before it could be killed:\n{self._words()}"

    def _status(self) -> int:
        """The exit status; an AssertionError if it makes no receipt for long."""
        seen, since_s = -1, time.monotonic()
        while (status := self._process.poll()) is None:
            self.family.look()
            if (now := len(receipts(self._place))) != seen:
                seen, since_s = now, time.monotonic()
            assert time.monotonic() - since_s < _PATIENCE_S, f"hangs at {seen} receipts:\n{self._words()}"
            time.sleep(0.2)
        return status

    def _words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


def receipts(place: str) -> dict[str, int]:
    """The receipts of a run with the times when they were written."""
    entries = RunDir(place).storage.entries("receipts")
    return {path: entry.mtime_ns for path, entry in entries.items() if path.count("/") == 1 and path.count(".") == 1}


def contents(place: str) -> dict[tuple[str, str], tuple[str, str, int]]:
    """Fingerprint, output hash and sample count of every receipt of a run."""
    run = RunDir(place)
    found = [receipt for column in run.columns() for receipt in run.receipts(column).values()]
    return {(r.column, r.shard): (r.fingerprint, r.output.sha256, r.samples_out) for r in found}
