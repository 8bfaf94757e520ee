"""Writing the state of an unfinished training into the run's storage, beside the training."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from ...engine.storage.storage import StorageError
from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch.plugins.io import TorchCheckpointIO  # noqa: E402
from lightning_utilities.core.apply_func import apply_to_collection  # noqa: E402

from .resume import Resume  # noqa: E402


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
            try:
                torch.save(checkpoint, folder / "last.ckpt")
            except RuntimeError as error:  # so torch says that a file cannot be written
                free_mb = shutil.disk_usage(folder).free / 1e6
                raise StorageError(f"{folder}: a checkpoint cannot be written, with {free_mb:.1f} MB free") from error
            self._resume.storage.publish(folder / "last.ckpt", self._resume.path)

    def teardown(self) -> None:
        """Waits for the last one."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()
