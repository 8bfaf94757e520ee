"""Training with parameters spread over the ranks (FSDP2), and its checkpoints, of which every rank writes a part."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata

from ...engine.storage.storage import Storage
from ...models.support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch.strategies import ModelParallelStrategy  # noqa: E402

from .checkpoints import Background, copied_to_cpu, torch_writes  # noqa: E402
from .resume import Resume  # noqa: E402

_REST = "rest.ckpt"  # of a checkpoint: all that no rank holds a part of
_MODEL, _OPTIMIZER = "model/", "optimizer/"
_METADATA = ("Metadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING")
_OF_TENSORS = ("TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata")
_DESCRIBE_TENSORS = {
    *(("torch.distributed.checkpoint.metadata", name) for name in _METADATA + _OF_TENSORS),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
}


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 over all ranks, with checkpoints in the run's storage that any number of ranks reads again.

    They are written while the training goes on, one at a time, as `StoredCheckpoints` are; what went wrong on any rank
    is raised on all by the next call. The objects of one begin with the training's path and the step, and one that is
    not whole does not count: `.metadata` is written last, and then earlier ones are deleted.
    """

    def __init__(self, resume: Resume, ranks: int, timeout: timedelta) -> None:
        super().__init__(data_parallel_size=ranks, tensor_parallel_size=1, timeout=timeout)
        self._resume, self._writing = resume, Background()

    def setup_environment(self) -> None:
        super().setup_environment()
        group: Any = distributed.new_group(backend="gloo", timeout=self._timeout)
        self._group = group  # of its own: it speaks while the training does

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        self._writing.wait()
        optimizer = checkpoint.pop("optimizer_states")[0]
        tensors = {_MODEL + name: tensor for name, tensor in checkpoint.pop("state_dict").items()}
        for name, state in optimizer["state"].items():
            tensors |= {f"{_OPTIMIZER}{name}/{kind}": tensor for kind, tensor in state.items()}
        rest = {**checkpoint, "groups": optimizer["param_groups"]}
        tensors, rest = copied_to_cpu((tensors, rest))
        prefix = f"{filepath}-{checkpoint['global_step']:08d}-"
        writer = _Writer(self._resume, prefix, rest if self.global_rank == 0 else None)
        self._writing.start(self._write, tensors, writer)

    def _write(self, tensors: dict[str, Any], writer: _Writer) -> None:
        with _as_it_was():
            state_dict_saver.save(tensors, storage_writer=writer, process_group=self._group)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Restores the parts of the parameters and of the optimizer's state that are this rank's; returns the rest."""
        assert self.model is not None
        storage, optimizer = self._resume.storage, self.optimizers[0]
        prefix = self.broadcast(str(checkpoint_path))
        weights, parameters = self.model.state_dict(), dict(self.model.named_parameters())
        tensors: dict[str, Any] = {_MODEL + name: tensor for name, tensor in weights.items()}
        with storage.scratch() as folder:
            reader = _Reader(folder, storage, prefix)
            for key, entry in reader.read_metadata().state_dict_metadata.items():
                if key.startswith(_OPTIMIZER):
                    name, _, kind = key.removeprefix(_OPTIMIZER).rpartition("/")
                    parameter = parameters[name]
                    like = entry.size == parameter.shape  # pyright: ignore[reportAttributeAccessIssue]
                    tensors[key] = torch.zeros_like(parameter) if like else torch.zeros(())
                    optimizer.state[parameter][kind] = tensors[key]
            with _as_it_was():
                state_dict_loader.load(tensors, storage_reader=reader, process_group=self._group)
        rest = torch.load(io.BytesIO(storage.read_bytes(prefix + _REST)), weights_only=True)
        for group, saved in zip(optimizer.param_groups, rest.pop("groups"), strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        return rest

    def teardown(self) -> None:
        self._writing.wait()
        super().teardown()


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Raises what one of the ranks met. Torch tells all ranks of it, by an exception that is no `Exception`."""
    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


class _Writer(FileSystemWriter):
    """Writes into local folders, and from there to the storage.

    All of it happens in calls whose failures torch tells all ranks: else one would end, and the others wait for it.
    """

    def __init__(self, resume: Resume, prefix: str, rest: dict[str, Any] | None) -> None:
        super().__init__(prefix)
        self._resume, self._prefix, self._rest = resume, prefix, rest

    def prepare_local_plan(self, plan: Any) -> Any:
        return plan  # there is no folder yet

    def write_data(self, plan: Any, planner: Any) -> Any:
        with self._published():
            if self._rest is not None:
                torch.save(self._rest, self.path / _REST)
            written = super().write_data(plan, planner)
            written.wait()
        return written

    def finish(self, metadata: Metadata, results: Any) -> None:
        """Called on rank 0, when all ranks have written."""
        with self._published():
            super().finish(metadata, results)
        self._resume.forget(but=self._prefix)

    @contextmanager
    def _published(self) -> Iterator[None]:
        """Takes what is written to `path` into the storage."""
        storage = self._resume.storage
        with storage.scratch() as self.path:
            with torch_writes(self.path):
                yield
            for file in self.path.iterdir():
                storage.publish(file, self._prefix + file.name)


class _Reader(FileSystemReader):
    """Reads from a local folder what it has fetched from the storage: the parts that this rank needs."""

    def __init__(self, folder: Path, storage: Storage, prefix: str) -> None:
        super().__init__(folder)
        self._folder, self._storage, self._prefix = folder, storage, prefix

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        return _Metadata(io.BytesIO(self._storage.read_bytes(f"{self._prefix}.metadata"))).load()

    def read_data(self, plan: Any, planner: Any) -> Any:
        for name in {self.storage_data[item.storage_index].relative_path for item in plan.items}:
            (self._folder / name).write_bytes(self._storage.read_bytes(self._prefix + name))
        return super().read_data(plan, planner)


class _Metadata(pickle.Unpickler):
    """Torch writes it as a pickle; of one, only what describes tensors is made."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _DESCRIBE_TENSORS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a checkpoint that names {module}.{name}")
