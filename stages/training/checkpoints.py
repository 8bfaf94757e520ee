"""The state of an unfinished training in the run's storage: where it lies, and how it gets there."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...engine.storage.storage import Storage
from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch.plugins.io import TorchCheckpointIO  # noqa: E402
from lightning_utilities.core.apply_func import apply_to_collection  # noqa: E402

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


class StoredCheckpoints(TorchCheckpointIO):
    """Writes checkpoints into the storage, whole or not at all, while the training goes on: it waits for a copy alone.

    One is written at a time. What went wrong is raised by the next call. An earlier one stays until it is replaced.
    """

    def __init__(self, resume: Resume) -> None:
        self._resume = resume
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.teardown()
        copied = apply_to_collection(checkpoint, torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
        thread = ThreadPoolExecutor(1)
        self._writing = thread.submit(self._write, copied)
        thread.shutdown(wait=False)

    def _write(self, checkpoint: dict[str, Any]) -> None:
        with self._resume.storage.scratch() as folder:
            torch.save(checkpoint, folder / "last.ckpt")
            self._resume.storage.publish(folder / "last.ckpt", self._resume.path)

    def teardown(self) -> None:
        """Waits for the last one."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()
