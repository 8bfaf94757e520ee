"""Fitting: what was killed goes on from the storage's checkpoint, and ends with the very same weights."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.barrier import BarrierError
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.network.dap import DapModel
from dap_engine.models.training.modules import DapTraining
from dap_engine.models.training.settings import TrainSettings
from dap_engine.stages.training.fit import fit
from dap_engine.stages.training.resume import Resume
from dap_engine.stages.training.settings import DataConfig, Hardware
from dap_engine.stages.training.train import Network, Train
from dap_engine.stages.training.training import Task
from dap_engine.stages.training.training import train as train_task
from tests.conftest import REPOSITORY
from tests.jobs.packed import HEIGHT, TINY, pack_rooms

STEPS = 8  # an epoch has 4
DATA = DataConfig(image_height=HEIGHT, batch_size=3, num_workers=0, augment=1.0, seed=1)
SETTINGS = TrainSettings(STEPS, backbone_lr=3e-3, decoder_lr=3e-3, warmup_steps=2)
CHECKPOINT = "checkpoints/rooms.ckpt"


Log = Callable[[str], None]


def train(place: Path, log: Log = lambda _: None, every: int = 3) -> tuple[DapModel, dict[str, float]]:
    """Trains on the rooms of `place`, going on from the checkpoint there."""
    network, storage = Network(config=TINY).build(None, None), Storage(str(place))
    module, data = DapTraining(network, SETTINGS), DATA.module(storage, "train-rooms")
    hardware, resume = Hardware(accelerator="cpu"), Resume(storage, CHECKPOINT, every)
    return network, fit(module, data, STEPS, hardware, resume, log)


def kill_at(step: int) -> Log:
    """Kills this process in that step, as the kernel would: nothing is flushed, nothing is closed."""
    return lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.startswith(f"step {step}/") else None


class InterruptedTrainingError(Exception):
    """Raised in the middle of a training."""


def interrupt_at(step: int) -> Log:
    def log(line: str) -> None:
        if line.startswith(f"step {step}/"):
            raise InterruptedTrainingError

    return log


def same_weights(one: DapModel, other: DapModel) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


@pytest.fixture
def place(tmp_path) -> Path:
    pack_rooms(tmp_path, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[DapModel, dict[str, float]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    pack_rooms(folder, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    return train(folder)


@pytest.mark.slow  # `dap train` is killed in the fast suite
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(place, undisturbed):
    script = "import sys; from tests.stages.training.test_fit import *; train(Path(sys.argv[1]), kill_at(5))"
    killed = subprocess.run([sys.executable, "-c", script, str(place)], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Storage(str(place)).size(CHECKPOINT)
    steps: list[str] = []
    network, figures = train(place, steps.append)
    assert next(line for line in steps if line.startswith("step")).startswith("step 4/8")
    assert same_weights(network, undisturbed[0])
    assert figures == undisturbed[1]


@pytest.mark.parametrize(
    ("step", "goes_on_at"),
    [pytest.param(2, 1, marks=pytest.mark.slow), (3, 4), pytest.param(7, 7, marks=pytest.mark.slow)],
)
def test_an_error_anywhere_costs_no_more_than_the_steps_since_the_last_checkpoint(place, undisturbed, step, goes_on_at):
    with pytest.raises(InterruptedTrainingError):
        train(place, interrupt_at(step))
    steps: list[str] = []
    network, _ = train(place, steps.append)
    assert next(line for line in steps if line.startswith("step")).startswith(f"step {goes_on_at}/8")
    assert same_weights(network, undisturbed[0])


def test_the_last_step_is_not_saved_and_a_finished_training_forgets(place):
    train(place, every=STEPS)
    resume = Resume(Storage(str(place)), CHECKPOINT, STEPS)
    assert resume.fetch(place) is None
    Storage(str(place)).write_bytes(CHECKPOINT, b"state")
    assert Path(resume.fetch(place)).read_bytes() == b"state"
    resume.forget()
    assert resume.fetch(place) is None


def test_of_a_checkpoint_in_parts_the_last_whole_one_counts_and_earlier_ones_go(tmp_path):
    storage = Storage(str(tmp_path))
    resume = Resume(storage, CHECKPOINT, STEPS)
    assert resume.parts is None
    for name in ("-00000002-a", "-00000002-.metadata", "-00000010-a", "-00000010-.metadata", "-00000012-a"):
        storage.write_bytes(CHECKPOINT + name, b"part")
    assert resume.parts == f"{CHECKPOINT}-00000010-"
    resume.forget(but=f"{CHECKPOINT}-00000012-")
    assert list(storage.list("")) == [f"{CHECKPOINT}-00000012-a"]
    resume.forget()
    assert not storage.list("")


@pytest.mark.parametrize(("there", "strategy"), [("-00000002-.metadata", "ddp"), ("", "fsdp")])
def test_a_training_begun_with_another_strategy_is_refused(tmp_path, there, strategy):
    storage = Storage(str(tmp_path))
    storage.write_bytes(CHECKPOINT + there, b"state")
    step = Train("model", "data", SETTINGS, hardware=Hardware(strategy=strategy))
    task = Task(step, RunDir(str(tmp_path)), {}, Resume(storage, CHECKPOINT, STEPS))
    begun_with = {"ddp": "fsdp", "fsdp": "ddp"}[strategy]
    with pytest.raises(BarrierError, match=f"begun with hardware.strategy {begun_with}: go on with that"):
        train_task(task, tmp_path / "model", print, lambda *_: {})


def test_validation_figures_are_means_over_panoramas(place, undisturbed):
    network, figures = undisturbed
    data = dataclasses.replace(DATA, batch_size=5).module(Storage(str(place)), "train-rooms")
    (batch,) = data.loader(training=False)
    with torch.no_grad():
        predicted_m = network.eval()(batch["pixel_values"]).predicted_depth.numpy()
    truth_m, valid = batch["depth_m"].numpy(), batch["valid"].numpy()
    images = [(p[v], t[v]) for p, t, v in zip(predicted_m, truth_m, valid, strict=True)]
    expected = {
        "validation/abs_rel": np.mean([(abs(p - t) / t).mean() for p, t in images]),
        "validation/rmse": np.mean([np.sqrt(((p - t) ** 2).mean()) for p, t in images]),
        "validation/delta1": np.mean([(np.maximum(p / t, t / p) < 1.25).mean() for p, t in images]),
    }
    assert figures == pytest.approx(expected, rel=1e-4)


def test_without_a_validation_split_there_are_no_figures(tmp_path):
    pack_rooms(tmp_path, {"train-000000": 6})
    assert train(tmp_path)[1] == {}


def test_progress_names_the_step_and_the_loss(place):
    lines: list[str] = []
    train(place, lines.append)
    lines = [line for line in lines if line.startswith("step")]
    assert [line.split(":")[0] for line in lines] == [f"step {step}/8" for step in range(1, 9)]
    assert all("total" in line for line in lines)


def test_an_unpacked_column_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"train-none: no index\.json"):
        DATA.module(Storage(str(tmp_path)), "train-none")
