"""The source of steps that are not ours: it stands for them in fingerprints, and workers of other nodes are sent it.

A step's source is the Python files of the top-level module or package that its class is written in. Other files of a
package are no part of it: weights are assets, numbers are settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_OURS = __name__.partition(".")[0]


def source_hashes(step: type) -> dict[str, str]:
    """The top-level module of a step's class, with the sha256 of its source; nothing for ours.

    Raises:
        ValueError: there is no source to read, as of what is compiled.
    """
    top = _top(step)
    return {} if top == _OURS else {top: loaded_hash(top)}


@cache
def loaded_hash(top: str) -> str:
    """The sha256 of the source of a top-level module when its first step was imported: of what runs here."""
    return hash_source(top)


def note_source(step: type) -> None:
    """Remembers the source of a class that is being imported, unless it is ours or there is none to read."""
    with contextlib.suppress(ValueError, OSError):
        source_hashes(step)


def hash_source(top: str) -> str:
    """The sha256 of the source of an imported top-level module as it is now: over names and contents of its files."""
    digest = hashlib.sha256()
    for name, path in _files(top).items():
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def copy_sources(steps: Iterable[type], folder: Path) -> list[Path]:
    """Copies the source of each step that is neither ours nor installed into a folder; returns a place per module."""
    tops = sorted({_top(step) for step in steps} - {_OURS})
    copies = []
    for top in tops:
        files = _files(top)
        if _is_installed(next(iter(files.values()))):
            continue  # as on every node
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        copies.append(folder / Path(next(iter(files))).parts[0])
    return copies


def _top(step: type) -> str:
    return step.__module__.partition(".")[0]


def _files(top: str) -> dict[str, Path]:
    """The Python files of an imported top-level module by their names below what holds it, sorted; at least one.

    Of a package that lies in several folders, as a copy and its original, the first that has a name counts.
    """
    module, files = sys.modules.get(top), dict[str, Path]()
    if folders := getattr(module, "__path__", None):
        for root in map(Path, folders):
            for path in _below(root):
                files.setdefault(f"{top}/{path.relative_to(root)}", path)
    elif (file := getattr(module, "__file__", None)) and file.endswith(".py") and Path(file).is_file():
        files[f"{top}.py"] = Path(file)
    if not files:
        raise ValueError(f"{top} has no Python source, which tells its versions apart")
    return dict(sorted(files.items()))


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        yield from (Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("."))


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib"))
