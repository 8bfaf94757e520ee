"""Training on the workers of a Ray cluster: Ray Train places the ranks and starts them again when one dies."""

from __future__ import annotations

import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..engine.execution.placement import check_room, needed
from ..engine.execution.ray_executor import connect, machines
from ..engine.execution.ray_pipelines import RayExporter
from ..engine.meters import export_to
from ..engine.steps.barrier import BarrierError
from ..engine.steps.outcome import cause_line
from ..engine.storage.storage import StorageError
from ..models.support.torchvision_ops import register_missing_operators
from ..models.training.ranks import is_of_a_lost_peer
from ..stages.training.settings import Log
from ..stages.training.sharding import ShardedStrategy
from ..stages.training.training import Task

register_missing_operators()  # before lightning, which imports torchvision where it is installed

import ray  # noqa: E402
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, get_context  # noqa: E402
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment  # noqa: E402
from ray.train.torch import TorchConfig, TorchTrainer, get_device  # noqa: E402
from ray.util.queue import Queue  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402


def train_on_ray(task: Task, folder: Path, log: Log) -> dict[str, float]:
    """Trains on `hardware.workers` workers and leaves the model in the local `folder`; returns the validation figures.

    Between two numbers of workers, Ray begins anew with as many as there is room for when a node goes or comes.

    Raises:
        ResourceError: the cluster has no room for the workers.
        FloatingPointError: the loss became no number.
        BarrierError: a rank raised an exception; the message is its traceback, whose last line says what it was. Or
            workers died, or their storage was away, more often than `max_failures`.
    """
    hardware = task.training.hardware
    fewest, most = hardware.least_and_most_workers
    task.resume.storage.delete(_error_path(task))
    with _cluster(type(task.training)), tempfile.TemporaryDirectory() as own, _lines(log) as lines:
        check_room(task.training.model, hardware.pool, machines())
        trainer = TorchTrainer(
            _work,
            train_loop_config={"task": task, "lines": lines},
            torch_config=TorchConfig(timeout_s=hardware.timeout_s),
            scaling_config=ScalingConfig(
                num_workers=most if fewest == most else (fewest, most),
                use_gpu=hardware.num_gpus > 0,
                resources_per_worker=needed(hardware.pool),
            ),
            run_config=RunConfig(
                storage_path=own,  # its own notes; our checkpoints are in the run's storage
                failure_config=FailureConfig(max_failures=hardware.max_failures),
            ),
        )
        try:
            figures = trainer.fit().return_value
        except TrainingFailedError as error:
            times = f"the workers have failed {hardware.max_failures + 1} times, at last with"
            raise BarrierError(f"{times} {cause_line(str(error))}; the same command resumes") from error
    if isinstance(figures, Exception):
        raise figures
    _take_model(task, folder)
    return figures or {}


def _work(config: dict[str, Any]) -> dict[str, float] | FloatingPointError | BarrierError:
    """One rank. Ray starts all ranks again when one ends early; they go on from the last checkpoint.

    That is right for a killed worker, and for a storage that is away or full. A loss that is no number is the same on
    all ranks, so all return it. Any other exception is raised, so that no rank waits for this one, and is what the
    ranks return when they are started again.
    """
    task, lines = config["task"], config["lines"]
    export_to(RayExporter())
    hardware, storage = task.training.hardware, task.resume.storage
    if storage.size(_error_path(task)) is not None:
        return BarrierError(storage.read_bytes(_error_path(task)).decode())
    distributed = {
        "accelerator": "gpu" if hardware.num_gpus else "cpu",
        "devices": "auto",  # what Ray has given to the worker
        "strategy": _RayShardedStrategy(task.resume, get_context().get_world_size(), hardware.timeout)
        if hardware.strategy == "fsdp"
        else RayDDPStrategy(find_unused_parameters=True),
        "plugins": [RayLightningEnvironment()],
    }
    with storage.scratch() as scratch:
        try:
            figures = task.work(scratch / "model", lines.put, distributed)
        except FloatingPointError as error:
            return error
        except Exception as error:
            if not (isinstance(error, StorageError) or is_of_a_lost_peer(error)):
                storage.write_bytes(_error_path(task), traceback.format_exc().encode())
            raise
        if get_context().get_world_rank() == 0:
            storage.publish(scratch / "model", _model_path(task))
    return figures


class _RayShardedStrategy(ShardedStrategy):
    """On the device that Ray has given to the worker."""

    @property
    def root_device(self) -> torch.device:
        return get_device()


def _error_path(task: Task) -> str:
    """Where a rank leaves the traceback of an exception."""
    return str(Path(task.resume.path).with_suffix(".error.txt"))


def _model_path(task: Task) -> str:
    """Where rank 0 leaves the trained model for the driver, which may be another machine."""
    return str(Path(task.resume.path).with_suffix(""))


def _take_model(task: Task, folder: Path) -> None:
    """Moves the trained model out of the storage into a local folder."""
    storage, path = task.resume.storage, _model_path(task)
    folder.mkdir(parents=True)
    for name in storage.list(path):
        (folder / name).write_bytes(storage.read_bytes(f"{path}/{name}"))
        storage.delete(f"{path}/{name}")
    if storage.is_local:  # an object store has no empty folders
        Path(storage.locate(path)).rmdir()


@contextmanager
def _cluster(training: type) -> Iterator[None]:
    """Holds the Ray that this process is connected to, or else one for the time being, which is sent the training."""
    has_connected = connect(steps=[training])
    try:
        yield
    finally:
        if has_connected:
            ray.shutdown()


@contextmanager
def _lines(log: Log) -> Iterator[Queue]:
    """A queue into which workers put lines of progress, said here; it goes with no other node than this one."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def listen() -> None:
        while (line := queue.get()) is not None:
            log(line)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.put(None)
        thread.join()
        queue.shutdown()
