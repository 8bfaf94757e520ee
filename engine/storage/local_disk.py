"""A disk of this machine, or one that the machines of a cluster share, as a store of objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from pyarrow import fs

from .faults import RetryPolicy


class LocalDisk:
    """Objects as files. What is put is there whole or not at all, whatever is killed."""

    is_local = True

    def __init__(self) -> None:
        self.filesystem = fs.LocalFileSystem()

    def open(self, location: str, retry_policy: RetryPolicy, name: str) -> IO[bytes]:
        """A readable, seekable stream; it keeps reading the same file even if that is replaced."""
        return retry_policy.run(lambda: self.filesystem.open_input_file(location), name)

    def read(self, location: str) -> bytes:
        """All bytes of a file."""
        return Path(location).read_bytes()

    def read_part(self, location: str, offset: int, size: int) -> bytes:
        """Bytes of a file; fewer where it ends."""
        with Path(location).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def peek(self, location: str, offset: int, size: int | None) -> bytes:
        """Bytes of a file."""
        return self.read_part(location, offset, -1 if size is None else size)

    def put(self, local: Path, location: str) -> None:
        """Moves a finished file of the same disk to its place, durably."""
        target = Path(location)
        target.parent.mkdir(parents=True, exist_ok=True)
        local.chmod(0o644)  # some libraries leave files that others on the cluster could not read
        os.utime(local)  # its time is when it became visible, not when it was begun: a receipt must be the newer one
        _flush(local)
        local.replace(target)
        _flush(target.parent)


def _flush(path: Path) -> None:
    """Has the disk write down a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
