"""Local folders for unfinished files. Host and pid in their names tell which were left by killed processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from .faults import reported_as


def make_scratch(parent: Path) -> Path:
    """A new empty folder in `parent` that belongs to this process."""
    folder = parent / f"{_owner()}-{os.getpid()}-{uuid4().hex[:8]}"
    parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder


@contextlib.contextmanager
def scratch_in(parent: Path, name: str, place: Path) -> Iterator[Path]:
    """A scratch folder, deleted afterwards. Errors of the disk become a StorageError that names it.

    `place`: the folder whose files such errors are about.
    """
    with reported_as(name, place):
        folder = make_scratch(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def roomiest(folders: Sequence[str]) -> str:
    """That of the folders with the most room which may be written to; the first if none may."""
    usable = [folder for folder in folders if os.access(folder, os.W_OK | os.X_OK)]
    return max(usable, key=lambda folder: shutil.disk_usage(folder).free, default=folders[0])


def sweep(parent: Path) -> None:
    """Removes scratch folders of this machine's processes that were killed."""
    for folder in parent.glob(f"{_owner()}-*-*"):
        owner, pid, _ = folder.name.rsplit("-", 2)
        is_ours = owner == _owner()  # another machine's name may begin like this one's
        if is_ours and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _owner() -> str:
    return f"dap-{socket.gethostname()}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
