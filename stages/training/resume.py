"""The state of an unfinished training in the run's storage: where it lies."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...engine.storage.storage import Storage

CHECKPOINTS = "checkpoints"
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Resume:
    """Where the state of an unfinished training is kept, and how often. One path for one fingerprint.

    `live` is the folder in the same storage that shows what the training does; none for an empty one.
    """

    storage: Storage
    path: str
    every_steps: int
    live: str = ""

    def fetch(self, folder: Path) -> str | None:
        """The last checkpoint as a local file, fetched into the folder from an object store; None if there is none."""
        if self.storage.size(self.path) is None:
            return None
        if self.storage.is_local:
            return self.storage.locate(self.path)
        local = folder / "resume.ckpt"
        with self.storage.open(self.path) as source, local.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
        return str(local)

    @property
    def parts(self) -> str | None:
        """What the names of the parts of the last checkpoint begin with, if ranks have written one in parts."""
        whole = [name for name in self._objects() if re.fullmatch(r".*\.ckpt-\d+-\.metadata", name)]
        return max(whole).removesuffix(".metadata") if whole else None

    def forget(self, *, but: str | None = None) -> None:
        """Removes the checkpoint of a training that has come to its end, or those before the one that begins so."""
        for name in self._objects():
            if but is None or not name.startswith(but):
                self.storage.delete(name)

    def _objects(self) -> list[str]:
        folder = self.path.rpartition("/")[0]
        names = (f"{folder}/{name}".lstrip("/") for name in self.storage.list(folder))
        return [name for name in names if name.startswith(self.path)]
