"""The state of an unfinished training in the run's storage: where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...engine.storage.storage import Storage

CHECKPOINTS = "checkpoints"


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
        """A local copy of the last checkpoint, if there is one."""
        if self.storage.size(self.path) is None:
            return None
        local = folder / "resume.ckpt"
        local.write_bytes(self.storage.read_bytes(self.path))
        return str(local)

    def forget(self) -> None:
        """Removes the checkpoint of a training that has come to its end."""
        self.storage.delete(self.path)
