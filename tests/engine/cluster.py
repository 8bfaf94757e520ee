"""Real Ray clusters and real process trees, for tests that kill parts of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

_OBJECT_STORE_BYTES = 80 * 2**20


@dataclass(frozen=True)
class Process:
    """A running process. With the time of its start, a number that is given out again is not taken for it."""

    pid: int
    started: int  # clock ticks since boot

    @staticmethod
    def of(pid: int) -> Process:
        """The process of a number; raises OSError if there is none."""
        return Process(pid, int(_status(pid)[19]))

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that merely waits to be reaped does not."""
        try:
            status = _status(self.pid)
        except OSError:
            return False
        return int(status[19]) == self.started and status[0] != "Z"

    @property
    def title(self) -> str:
        """Its command line, empty if it has gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """kill -9."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Family:
    """All that descended from a process since this was made, also of parents that have died, as far as it looked."""

    def __init__(self, root: int, *, new: bool = True) -> None:
        """`new`: without those that are there already."""
        self._root, self._members, self._before = root, set[Process](), frozenset[Process]()
        self._before = frozenset(self.look()) if new else self._before

    def look(self) -> list[Process]:
        """All members that are alive now, the oldest first."""
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    children.setdefault(int(_status(int(folder.name))[1]), []).append(int(folder.name))
        self._members = {member for member in self._members if member.alive}
        ahead = [self._root, *(member.pid for member in self._members)]
        while ahead:
            for pid in children.get(ahead.pop(), ()):
                with suppress(OSError):
                    if (child := Process.of(pid)) not in self._members:
                        self._members.add(child)
                        ahead.append(pid)
        return sorted(self._members - self._before, key=lambda member: member.started)

    def left_after(self, patience_s: float, of: str = "") -> list[str]:
        """Waits until all members with a word in their title are gone; returns the titles of those that are not."""
        end_s = time.monotonic() + patience_s
        while True:
            left = [f"{process.pid} {process.title[:80]}" for process in self.look() if of in process.title]
            if not left or time.monotonic() > end_s:
                return left
            time.sleep(0.2)


def below(process: Process) -> list[Process]:
    """All that descend from a process now."""
    return Family(process.pid, new=False).look()


def _status(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: state, parent, …; the 20th is the start."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Nodes:
    """A Ray cluster on this machine: a head, and nodes that can be killed."""

    def __init__(self, head_cpus: int, cpus: Sequence[int]) -> None:
        head = {"num_cpus": head_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._others = [self._add(each) for each in cpus]
        self._raylets = [_raylet(node) for node in self._others]

    @property
    def environment(self) -> Mapping[str, str]:
        """What a command needs to run on the cluster."""
        return {"RAY_ADDRESS": str(self._cluster.address)}

    def raylets(self) -> list[Process]:
        """The nodes beside the head, each by its raylet."""
        return self._raylets

    def add(self, cpus: int) -> None:
        """Brings one more node."""
        self._others.append(self._add(cpus))
        self._raylets.append(_raylet(self._others[-1]))

    def replace_dead(self, cpus: int) -> None:
        """Puts new nodes in the places of killed ones."""
        for place, raylet in enumerate(self._raylets):
            if not raylet.alive:
                self._cluster.remove_node(self._others[place], allow_graceful=False)
                self._others[place] = self._add(cpus)
                self._raylets[place] = _raylet(self._others[place])

    def close(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()

    def _add(self, cpus: int) -> Any:
        return self._cluster.add_node(num_cpus=cpus, object_store_memory=_OBJECT_STORE_BYTES)


def _raylet(node: Any) -> Process:
    return Process.of(node.all_processes["raylet"][0].process.pid)
