"""One training a folder: it says in the folder who it is, and a second one is refused while the first lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from ..engine.storage.storage import Storage
from .errors import UsageError

BEAT_S = 10.0  # between signs of life for other machines


@contextmanager
def held(storage: Storage, path: str) -> Iterator[None]:
    """Holds a folder by an object in it until the end, however this process ends.

    Raises:
        UsageError: another process holds it. One of this machine is looked up by its pid and start time; one of
            another machine counts as gone when it gives no sign of life for a while.
    """
    own = {"host": socket.gethostname(), "pid": os.getpid(), "started_s": psutil.Process().create_time()}
    _refuse(storage, path, own)
    stopped = threading.Event()

    def beat(count: int = 0) -> None:
        with suppress(OSError):  # a storage that is away for a while
            storage.write_bytes(path, json.dumps(own | {"beat": count}).encode())
        if not stopped.wait(BEAT_S):
            beat(count + 1)

    storage.write_bytes(path, json.dumps(own | {"beat": 0}).encode())
    _refuse(storage, path, own)  # one that began at the same moment
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        storage.delete(path)


def _refuse(storage: Storage, path: str, own: dict[str, Any]) -> None:
    holder = _read(storage, path)
    if holder and any(holder[name] != own[name] for name in own) and _lives(storage, path, holder):
        where = storage.address("")
        raise UsageError(f"{where}: process {holder['pid']} on {holder['host']} is training there; it must end first")


def _read(storage: Storage, path: str) -> dict[str, Any] | None:
    try:
        return json.loads(storage.read_bytes(path))
    except FileNotFoundError:
        return None


def _lives(storage: Storage, path: str, holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname():
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(holder["pid"]).create_time() == holder["started_s"]
        return False
    time.sleep(2.5 * BEAT_S)
    return _read(storage, path) not in (None, holder)
