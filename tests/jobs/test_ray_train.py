"""Training on Ray: the same bytes every time, also when a worker is killed; too little room is refused at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file

from dap_engine.engine.execution.placement import ResourceError
from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.barrier import BarrierError
from dap_engine.engine.storage.storage import Storage, hash_local
from dap_engine.jobs import ray_train
from dap_engine.jobs.ray_train import train_on_ray
from dap_engine.models.network.dap import DapModel
from dap_engine.models.training.settings import TrainSettings
from dap_engine.stages.training.resume import Resume
from dap_engine.stages.training.settings import DataConfig, Hardware
from dap_engine.stages.training.train import Network, Train
from dap_engine.stages.training.training import Task
from tests.jobs.packed import HEIGHT, TINY, pack_rooms

TRAIN = Train(
    model="rooms",
    data="train-rooms",
    training=TrainSettings(6, backbone_lr=3e-3, decoder_lr=3e-3),
    network=Network(config=TINY),
    batches=DataConfig(image_height=HEIGHT, batch_size=4, num_workers=0, seed=1),
    hardware=Hardware(workers=2),
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def cluster():
    executor = RayExecutor(num_cpus=2)
    yield
    executor.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    pack_rooms(folder, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    return folder


def trained(data: Path, state: Path, say=lambda line: None, train: Train = TRAIN) -> tuple[str, dict[str, float]]:
    """The hash of the model that comes out, and the figures."""
    task = Task(train, RunDir(str(data)), {}, Resume(Storage(str(state)), "checkpoints/rooms.ckpt", 2))
    figures = train_on_ray(task, state / "model", say)
    DapModel.from_folder(state / "model")
    return hash_local(state / "model"), figures


@pytest.fixture(scope="module")
def undisturbed(cluster, data, tmp_path_factory):
    return trained(data, tmp_path_factory.mktemp("undisturbed"))


def test_a_cluster_of_its_own_is_sent_the_training(monkeypatch):
    sent: list[type] = []
    monkeypatch.setattr(ray_train, "connect", lambda steps: sent.extend(steps))
    with ray_train._cluster(Train):
        assert sent == [Train]


@pytest.mark.slow
def test_two_trainings_on_two_workers_end_with_the_same_bytes(data, undisturbed, tmp_path):
    steps: list[str] = []
    assert trained(data, tmp_path, steps.append) == undisturbed
    steps = [line for line in steps if line.startswith("step")]
    assert [line.split(":")[0] for line in steps] == [f"step {step}/6" for step in range(1, 7)]
    assert ray.is_initialized()


@pytest.mark.slow
def test_a_killed_worker_costs_the_steps_since_the_last_checkpoint_and_changes_nothing(data, undisturbed, tmp_path):
    steps: list[str] = []

    def kill_one_at_step_5(line: str) -> None:
        if not line.startswith("step"):
            return
        steps.append(line)
        if line.startswith("step 5/") and len(steps) == 5:
            os.kill(workers()[0], signal.SIGKILL)

    assert trained(data, tmp_path, kill_one_at_step_5) == undisturbed
    assert "step 5/6" in {line.split(":")[0] for line in steps[5:]}
    assert "step 3/6" not in {line.split(":")[0] for line in steps[5:]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_hangs_is_given_up_for_a_new_one(data, undisturbed, tmp_path):
    stopped: list[int] = []

    def stop_one_at_step_5(line: str) -> None:
        if line.startswith("step 5/") and not stopped:
            stopped.append(workers()[0])
            os.kill(stopped[0], signal.SIGSTOP)

    bounded = replace(TRAIN, hardware=replace(TRAIN.hardware, timeout_s=8))
    try:
        assert trained(data, tmp_path, stop_one_at_step_5, bounded) == undisturbed
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert stopped


@pytest.mark.slow
def test_workers_that_hold_parts_of_the_network_end_with_the_same_weights(cluster, data, tmp_path):
    killed: list[str] = []

    def kill_one_at_step_5(line: str) -> None:
        if line.startswith("step 5/") and not killed:
            killed.append(line)
            os.kill(workers()[0], signal.SIGKILL)

    exact = replace(TRAIN, hardware=Hardware(workers=2, precision="64-true"))
    trained(data, tmp_path / "ddp", train=exact)
    sharded = replace(exact, hardware=replace(exact.hardware, strategy="fsdp"))
    trained(data, tmp_path / "fsdp", kill_one_at_step_5, sharded)
    assert killed
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("ddp", "fsdp"))
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-9 * one[name].abs().max()) for name in one)


def workers() -> list[int]:
    """The processes of our cluster that train."""
    found = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [pid for pid in found if "RayTrainWorker" in command_of(pid) and os.getpid() in ancestors(pid)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


@pytest.mark.slow
def test_a_training_that_the_cluster_cannot_hold_is_refused_at_once(cluster, data, tmp_path):
    greedy = replace(TRAIN, hardware=Hardware(workers=2, num_cpus=2))
    task = Task(greedy, RunDir(str(data)), {}, Resume(Storage(str(tmp_path)), "checkpoints/rooms.ckpt", 2))
    with pytest.raises(ResourceError, match="needs 2 workers of 2 CPU each; the cluster has 2 CPU"):
        train_on_ray(task, tmp_path / "model", print)


@dataclass
class Broken(Train):
    """Raises where its network is built, as a package that a node lacks would."""

    def build(self, assets):
        with open(self.network.config["log"], "a") as log:
            log.write("built\n")
        raise ModuleNotFoundError("No module named 'flash_attn'")


@pytest.mark.slow
@pytest.mark.timeout(600)  # Ray tries anew to start its workers where a busy machine is late
def test_an_exception_of_a_rank_ends_the_training_with_its_cause(cluster, data, tmp_path):
    """Not after as many tries as there may be failures, and not hidden behind a count of them."""
    log = tmp_path / "log"
    hardware, network = Hardware(workers=1, max_failures=5), Network(config={"log": str(log)})
    broken = Broken(**vars(TRAIN) | {"hardware": hardware, "network": network})
    state = Storage(str(tmp_path / "state"))
    with pytest.raises(BarrierError, match=r"(?s)Traceback.*ModuleNotFoundError: No module named 'flash_attn'\n$"):
        train_on_ray(Task(broken, RunDir(str(data)), {}, Resume(state, "c.ckpt", 2)), tmp_path / "model", print)
    assert log.read_text() == "built\n"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_loss_that_is_no_number_ends_the_training_at_once(cluster, data, tmp_path, workers):
    """Not after as many tries as there may be failures: it would come to the same."""
    lost = replace(TRAIN, training=TrainSettings(6, backbone_lr=1e30, decoder_lr=1e30))
    lost = replace(lost, hardware=Hardware(workers=workers, max_failures=3))
    said: list[str] = []
    with pytest.raises(FloatingPointError, match=r"^step \d: the loss is no number any more"):
        train_on_ray(
            Task(lost, RunDir(str(data)), {}, Resume(Storage(str(tmp_path)), "c.ckpt", 2)), tmp_path, said.append
        )
    assert sum(line.startswith("step 1/") for line in said) == 1
