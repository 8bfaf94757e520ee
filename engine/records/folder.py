"""Folders of KEY.ext files: videos, models, reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .keys import RisingKeys
from .sample import Row


class FolderWriter:
    def __init__(self, path: Path) -> None:
        self._path, self._keys = path, RisingKeys()
        self._written: list[Path] = []
        path.mkdir()

    def add(self, row: Row) -> None:
        self._keys.check(row.key)
        for field, data in row.fields.items():
            self._written.append(self._path / f"{row.key}.{field}")
            self._written[-1].write_bytes(data)

    def mark(self) -> Callable[[], None]:
        undo_keys, count = self._keys.mark(), len(self._written)

        def undo() -> None:
            undo_keys()
            while len(self._written) > count:
                self._written.pop().unlink(missing_ok=True)

        return undo

    def finish(self) -> Path:
        return self._path

    def close(self) -> None:
        """Nothing is open."""
