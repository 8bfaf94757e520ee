"""What commands write by themselves: files that appear whole or not at all, and errors in one line."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..engine.storage.faults import StorageError, cause
from ..engine.storage.local_disk import LocalDisk
from .errors import UsageError


def output_folder(path: str, option: str = "--out") -> Path:
    """The folder, made if need be. Raises UsageError if it cannot be one, StorageError if nothing can be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{option} {path}: is a file, not a folder") from error
    except OSError as error:
        raise StorageError(f"{option} {path}: {cause(error)}") from error
    return folder


def write_file(path: Path, data: bytes) -> None:
    """Writes a file; raises StorageError."""
    with unfinished_file(path) as file:
        file.write(data)


@contextmanager
def unfinished_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is at `path` once all is well, and nowhere before; raises StorageError."""
    unfinished = _unfinished(path.parent)
    try:
        with unfinished.open("wb") as file:
            yield file
        LocalDisk().put(unfinished, str(path))
    except OSError as error:
        raise StorageError(f"{path}: {cause(error)}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_folder(folder: Path, save: Callable[[Path], object]) -> None:
    """Moves the files that `save` writes into an empty folder to theirs, config.json last; raises StorageError."""
    unfinished = _unfinished(folder)
    try:
        unfinished.mkdir()
        save(unfinished)
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == "config.json"):
            LocalDisk().put(file, str(folder / file.name))
    except OSError as error:
        raise StorageError(f"{folder}: {cause(error)}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unfinished(folder: Path) -> Path:
    return folder / f".dap-{os.getpid()}.unfinished"
