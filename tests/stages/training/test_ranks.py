"""One training, whatever it runs on: ranks and parts of a batch change nothing, nor does a kill in between."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.distributed import TCPStore

from dap_engine.engine.storage.storage import Storage
from dap_engine.jobs.__main__ import main
from tests.conftest import REPOSITORY
from tests.jobs.packed import HEIGHT, TINY, pack_rooms
from tests.models.panoramas import write_shard

STEPS = 6  # an epoch has 3
CONFIG = {
    "training": {
        "steps": STEPS,
        "backbone_lr": 3e-3,
        "decoder_lr": 3e-3,
        "warmup_steps": 2,
        "losses": {"silog": 1.0, "gradient": 5.0, "normals": 2.0, "range_mask": 2.0, "affine_invariant": 0.5},
        "feature_alignment": 0.3,
        "feature_margin": 1.0,
        "losses_by_source": {"labels": {"silog": 0.5, "points": 2.0, "range_mask": 1.0, "gradient_matching": 0.5}},
        "noisy_share": 0.1,
        "aligned_sources": ["labels"],
    },
    "network": {"config": TINY},
    "batches": {
        "image_height": HEIGHT,
        "batch_size": 4,
        "num_workers": 0,
        "augment_by_source": {"labels": {"strength": 0.5, "cutmix": 0.7}},
    },
    "hardware": {"accelerator": "cpu", "precision": "64-true"},
    "checkpoint_every": 2,
}
KILLING = """
import os, signal, sys
from dap_engine.jobs import __main__ as command
from dap_engine.jobs.commands import train
train._log = lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.startswith("step 5/") else None
sys.exit(command.main(sys.argv[1:]))
"""
LEAVING = """
import os, signal, sys
from dap_engine.jobs.__main__ import main
from dap_engine.models.training.modules import DapTraining
begin = DapTraining.on_train_batch_start
def leaving(module, *rest):
    if module.global_step == 4 and (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("2", "3"):
        for process in (os.getppid(), os.getpid()):
            os.kill(process, signal.SIGKILL)
    begin(module, *rest)
DapTraining.on_train_batch_start = leaving
sys.exit(main(sys.argv[1:]))
"""
REFUSING = """
import os, sys
from dap_engine.engine.storage.storage import Storage, StorageError
from dap_engine.jobs.__main__ import main
publish = Storage.publish
def refusing(storage, local, path, *rest):
    if path.endswith(".distcp") and int(os.environ["RANK"]) == {rank}:
        raise StorageError("no room for a part")
    return publish(storage, local, path, *rest)
Storage.publish = refusing
sys.exit(main(sys.argv[1:]))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """The command without its `--out`."""
    folder = tmp_path_factory.mktemp("rooms")
    data = folder / pack_rooms(folder, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    write_shard(data / "train-000001.tar", 6, seed=1, source="labels")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "killing.py").write_text(KILLING)
    return ["train", str(folder / "config.yaml"), "--data", str(data)]


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main([*words, "--out", str(out)]) == 0
    return weights(out)


def weights(model: Path) -> dict[str, torch.Tensor]:
    found = load_file(model / "model.safetensors")
    assert {tensor.dtype for tensor in found.values() if tensor.is_floating_point()} == {torch.float64}
    return found


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Over all tensors, relative to the largest weight of each."""
    return max(float((tensor - other[name]).abs().max() / tensor.abs().max()) for name, tensor in one.items())


def as_words(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run(ranks: int, arguments: list[str], *, killed: bool = False) -> int:
    script = [str(Path(arguments[1]).with_name("killing.py"))] if killed else ["-m", "dap_engine.jobs"]
    launcher = [*TORCHRUN, "--nproc-per-node", str(ranks)] if ranks > 1 else [sys.executable]
    command = [*launcher, *script, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=ENVIRONMENT, check=False, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_training_ends_with_the_same_weights_on_another_number_of_ranks(
    words, undisturbed, tmp_path, first, then, strategy
):
    command = [*words, "--out", str(tmp_path / "out"), "--set", f"hardware.strategy={strategy}"]
    assert run(first, command, killed=True) != 0
    assert list((tmp_path / "out").glob("unfinished-*.ckpt*"))
    assert run(then, command) == 0
    assert largest_difference(undisturbed, weights(tmp_path / "out")) < 1e-9
    rows = list(csv.DictReader((tmp_path / "out" / "training" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_that_goes_for_good_costs_the_steps_since_the_last_checkpoint(words, undisturbed, tmp_path):
    """Three nodes of torchrun, which cannot share a batch of 4 evenly; one is killed, and two go on by themselves."""
    store, out = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False), tmp_path / "out"
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING)
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{store.port}", "--local-addr", "127.0.0.1"]
    meeting += ["--rdzv-conf", "is_host=0,last_call_timeout=5,join_timeout=300"]
    command = [*TORCHRUN, "--nnodes", "2:3", "--max-restarts", "3", *meeting, str(script), *words, "--out", str(out)]
    logs = [(tmp_path / f"{node}.log").open("w+") for node in range(3)]
    environment = {**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else ranks read addresses of dead ones
    nodes = [subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=log) for log in logs]
    try:
        codes = sorted(node.wait(timeout=400) for node in nodes)
    finally:
        for node in nodes:
            node.kill()
    said = "".join(Path(log.name).read_text() for log in logs)
    assert codes == [-9, 0, 0], said
    assert "3 ranks share batches of 4 unevenly: 2 of 6 places stay empty" in said
    assert largest_difference(undisturbed, weights(out)) < 1e-9
    rows = list(csv.DictReader((out / "training" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_rank_that_hangs_ends_the_training(words, tmp_path, strategy):
    settings = as_words(["training.steps=100000", "hardware.timeout_s=8", f"hardware.strategy={strategy}"])
    command = [*TORCHRUN, "--nproc-per-node", "2", "-m", "dap_engine.jobs", *words, *settings]
    launcher = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")], cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: list((tmp_path / "out").glob("unfinished-*.ckpt*")))
        ranks = psutil.Process(launcher.pid).children()
        ranks[0].suspend()
        said = launcher.communicate(timeout=120)[1]
    finally:
        launcher.kill()
    assert launcher.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("dap train: ")]
    assert line.startswith("dap train: another rank has ended, or was silent for 8 s; the same command resumes (")
    assert not any(rank.is_running() for rank in ranks)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_part_of_a_checkpoint_that_cannot_be_written_ends_all_ranks(words, tmp_path, rank):
    script = tmp_path / "refusing.py"
    script.write_text(REFUSING.format(rank=rank))
    command = [*TORCHRUN, "--nproc-per-node", "2", str(script), *words, "--set", "hardware.strategy=fsdp"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    lines = {line for line in ended.stderr.splitlines() if line.startswith("dap train: ")}
    assert lines == {"dap train: no room for a part"}, ended.stderr
    assert not list((tmp_path / "out").glob("*.metadata"))


@pytest.mark.slow
def test_spread_parameters_keep_averages_frozen_steps_and_parts_of_a_batch_as_they_are(words, tmp_path):
    settings = ["training.ema=0.9", "training.freeze_steps=3", "training.layer_decay=0.8"]
    memory = ["hardware.micro_batch_size=1", "hardware.gradient_checkpointing=true", "hardware.strategy=fsdp"]
    one, two = (tmp_path / name for name in ("one", "two"))
    assert main([*words, "--out", str(one), *as_words(settings)]) == 0
    assert run(2, [*words, "--out", str(two), *as_words(settings + memory)]) == 0
    assert largest_difference(weights(one), weights(two)) < 1e-9
    assert (one / "config.json").read_text() == (two / "config.json").read_text()


@pytest.mark.parametrize("micro_batch_size", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_parts_of_a_batch_give_the_weights_of_the_whole(words, undisturbed, tmp_path, micro_batch_size):
    settings = ["--set", f"hardware.micro_batch_size={micro_batch_size}"]
    assert main([*words, "--out", str(tmp_path / "out"), *settings]) == 0
    assert largest_difference(undisturbed, weights(tmp_path / "out")) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["hardware.compile=true", "hardware.compile_backend=aot_eager"],
        ["hardware.gradient_checkpointing=true", "training.fused=true", "hardware.micro_batch_size=3"],
        pytest.param(["hardware.compile=true", "hardware.gradient_checkpointing=true"], marks=pytest.mark.slow),
    ],
)
def test_what_makes_a_training_fast_or_small_changes_no_weights(words, undisturbed, tmp_path, settings):
    assert main([*words, "--out", str(tmp_path / "out"), *as_words(settings)]) == 0
    assert largest_difference(undisturbed, weights(tmp_path / "out")) < 1e-9


@pytest.mark.slow
def test_ranks_end_with_a_launcher_that_is_killed(words, tmp_path):
    endless = ["--set", "training.steps=100000", "--set", "checkpoint_every=5"]
    command = [*TORCHRUN, "--nproc-per-node", "2", "-m", "dap_engine.jobs", *words, *endless]
    launcher = subprocess.Popen([*command, "--out", str(tmp_path / "out")], cwd=REPOSITORY)
    try:
        wait_until(lambda: list((tmp_path / "out").glob("unfinished-*.ckpt")))
        ranks = psutil.Process(launcher.pid).children()
        assert len(ranks) == 2
    finally:
        launcher.kill()
        launcher.wait()
    wait_until(lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks))


def wait_until(condition, within_s: float = 120.0) -> None:
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_a_second_training_in_a_folder_is_refused_while_the_first_lives(words, tmp_path, capsys):
    out = tmp_path / "out"
    holding = "import sys, time; from dap_engine.jobs.begin import *\n"
    holding += "with held(Storage(sys.argv[1]), take_over=False): print('held', flush=True); time.sleep(600)"
    first = subprocess.Popen([sys.executable, "-c", holding, str(out)], stdout=subprocess.PIPE)
    assert first.stdout
    assert first.stdout.readline() == b"held\n"
    assert main([*words, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"held by process {first.pid} on " in line
    first.kill()
    first.wait()
    assert main([*words, "--set", "training.steps=1", "--out", str(out)]) == 0
    assert not [name for name in Storage(str(out)).list("") if name.startswith(".holders")]
