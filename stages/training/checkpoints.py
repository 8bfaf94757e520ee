"""Writing the state of an unfinished training into the run's storage, beside the training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...engine.storage.storage import StorageError
from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch.plugins.io import TorchCheckpointIO  # noqa: E402
from lightning_utilities.core.apply_func import apply_to_collection  # noqa: E402

from .resume import Resume  # noqa: E402


class Background:
    """Does one thing at a time in a thread; what went wrong is raised by the next `wait`."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        """Begins, after `wait`."""
        thread = ThreadPoolExecutor(1)
        self._running = thread.submit(work, *arguments)
        thread.shutdown(wait=False)

    def wait(self) -> None:
        """Waits for what was begun last."""
        running, self._running = self._running, None
        if running:
            running.result()


def copied_to_cpu(state: Any) -> Any:
    """The same with copies of all tensors, which the training does not change any more."""
    return apply_to_collection(state, torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))


@contextmanager
def torch_writes(folder: Path) -> Iterator[None]:
    """Turns what torch raises where a file cannot be written into a StorageError that names the folder."""
    try:
        yield
    except RuntimeError as error:
        free_mb = shutil.disk_usage(folder).free / 1e6
        raise StorageError(f"{folder}: a checkpoint cannot be written, with {free_mb:.1f} MB free") from error


class StoredCheckpoints(TorchCheckpointIO):
    """Writes checkpoints into the storage, whole or not at all, while the training goes on: it waits for a copy alone.

    One is written at a time. What went wrong is raised by the next call. An earlier one stays until it is replaced.
    """

    def __init__(self, resume: Resume) -> None:
        self._resume, self._writing = resume, Background()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self._writing.wait()
        self._writing.start(self._write, copied_to_cpu(checkpoint))

    def _write(self, checkpoint: dict[str, Any]) -> None:
        with self._resume.storage.scratch() as folder:
            with torch_writes(folder):
                torch.save(checkpoint, folder / "last.ckpt")
            self._resume.storage.publish(folder / "last.ckpt", self._resume.path)

    def teardown(self) -> None:
        """Waits for the last one."""
        self._writing.wait()
