"""Who works in a run directory: one driver at a time, so that no work is done twice.

(Two would do no harm: see `commit`.) A driver claims the run by an object of its own, `.holders/<id>.json`, which it
writes anew every few seconds, and then looks who else is there. It begins once no other living claim is left: of two
that come at the same time at least one sees the other. A holder on this system lives as long as its process, and has
`_ENDING_S` to end, as one killed a moment ago does. One elsewhere is taken for dead after `SILENCE_S` without a beat,
by the times that the storage gives to both claims, so that no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from ..storage.place import without_secrets
from ..storage.storage import Entry, Storage

FOLDER = ".holders"
BEAT_S = 5.0
SILENCE_S = 30.0
_LOOK_EVERY_S = 1.0
_ENDING_S = 2.0
_TIE_S = 3.0  # how much longer the earlier of two waits for the other to give way
_SAME_START_S = 1.0


class HeldError(RuntimeError):
    """A run directory that another driver works in; the message is one line."""


@dataclass(frozen=True, order=True)
class Holder:
    """A driver at work. Of two, the earlier is the smaller."""

    since_s: float  # since 1970
    job: str
    host: str
    system: str  # whose process numbers are meant: which boot of which machine, and which container
    pid: int
    started_s: float  # its process, since the system's boot, which no setting of the clock changes

    @staticmethod
    def here(job: str) -> Holder:
        """This process."""
        me = psutil.Process()
        return Holder(time.time(), job, socket.gethostname(), _system(), me.pid, _started_s(me))

    @property
    def is_here(self) -> bool:
        """Whether its process can be looked up."""
        return self.system == _system()

    @property
    def has_ended(self) -> bool:
        """Whether its process can be looked up, and runs no more."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            is_same = abs(_started_s(process) - self.started_s) < _SAME_START_S
            return not is_same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since_s))
        return f"{self.job} on {self.host} since {since}"


def _started_s(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()


def _system() -> str:
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def holders(storage: Storage) -> dict[str, tuple[Holder, Entry]]:
    """All claims that can be read, by their names, the earliest first, with when they were last written."""
    found: dict[str, tuple[Holder, Entry]] = {}
    for name, entry in storage.entries(FOLDER).items():
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # released meanwhile, or damaged
            found[name] = Holder(**json.loads(storage.read_bytes(f"{FOLDER}/{name}"))), entry
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


@contextlib.contextmanager
def hold(
    storage: Storage, job: str, *, take_over: bool = False, say: Callable[[str], None], on_loss: Callable[[], None]
) -> Iterator[None]:
    """Inside, the run directory is this driver's. A holder elsewhere that is silent is waited for.

    job: what this driver is called when others are told who holds the run.
    take_over: whoever holds the run loses it.
    say: takes a line on what is waited for.
    on_loss: is called, in a thread, when another driver has taken the run over.

    Raises:
        HeldError: another driver works in it.
    """
    storage = Storage(storage.uri)  # with retries of its own
    if take_over:
        for name in storage.list(FOLDER):
            storage.delete(f"{FOLDER}/{name}")
    claim = _Claim(storage, Holder.here(job))
    try:
        claim.await_turn(say)
        with claim.beating(on_loss):
            yield
    finally:
        claim.release()


class _Claim:
    """One driver's own object among the claims."""

    def __init__(self, storage: Storage, holder: Holder) -> None:
        self._storage, self._holder = storage, holder
        self._name, self._run = f"{uuid4().hex}.json", without_secrets(storage.uri)
        self._beat()

    def await_turn(self, say: Callable[[str], None]) -> None:
        """Returns when no other claim is left that may be of a living driver. Raises HeldError."""
        began_s, beats_ns = time.monotonic(), dict[str, int]()
        while others := self._others():
            watched_s = time.monotonic() - began_s
            for name, (other, entry) in others.items():
                is_seen_alive = other.is_here or beats_ns.get(name, entry.mtime_ns) != entry.mtime_ns
                patience_s = (_ENDING_S if other.is_here else SILENCE_S) + (_TIE_S if self._holder < other else 0)
                if is_seen_alive and watched_s >= patience_s:
                    raise HeldError(f"{self._run} is held by {other}; --take-over ends that and goes on here")
                if not (other.is_here or beats_ns):
                    say(f"held by {other}: waiting until that has been silent for {SILENCE_S:.0f} s")
            beats_ns = {name: entry.mtime_ns for name, (_, entry) in others.items()}
            time.sleep(_LOOK_EVERY_S)
            self._check_that_it_stands()
            self._beat()

    def _others(self) -> dict[str, tuple[Holder, Entry]]:
        """The other claims that may be of living drivers. Those of the dead are deleted."""
        claims = holders(self._storage)
        _, own = claims.pop(self._name, (None, None))
        now_ns = own.mtime_ns if own else 0
        dead = [
            name
            for name, (other, entry) in claims.items()
            if other.has_ended or not (other.is_here or now_ns - entry.mtime_ns < SILENCE_S * 1e9)
        ]
        for name in dead:
            self._storage.delete(f"{FOLDER}/{name}")
            del claims[name]
        return claims

    @contextlib.contextmanager
    def beating(self, on_loss: Callable[[], None]) -> Iterator[None]:
        """Inside, a thread shows that this driver lives, and looks whether the claim still stands."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_S):
                with contextlib.suppress(OSError):  # a storage that does not answer: the run itself will say so
                    try:
                        self._check_that_it_stands()
                    except HeldError:
                        return on_loss()
                    self._beat()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self) -> None:
        """The run is free."""
        self._storage.delete(f"{FOLDER}/{self._name}")

    def _check_that_it_stands(self) -> None:
        if self._storage.size(f"{FOLDER}/{self._name}") is None:
            raise HeldError(f"{self._run}: another run has taken it over")

    def _beat(self) -> None:
        content = json.dumps(dataclasses.asdict(self._holder)).encode()
        self._storage.write_bytes(f"{FOLDER}/{self._name}", content)
