"""`dap train`: by recipe on finished columns, or one training by itself, in one process or those of torchrun."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
import yaml

from dap_engine.engine.planning.setting_meanings import settings_of
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage, hash_local
from dap_engine.jobs.__main__ import main
from dap_engine.models.network.dap import DapModel
from dap_engine.stages.training.live import LiveFolder
from dap_engine.stages.training.train import Train
from tests.benchmarks.range_server import serving
from tests.conftest import REPOSITORY
from tests.jobs.packed import HEIGHT, TINY, pack_rooms

CONFIG = {
    "training": {"steps": 4, "backbone_lr": 1e-3, "decoder_lr": 1e-3},
    "network": {"config": TINY},
    "batches": {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0},
    "hardware": {"accelerator": "cpu"},
    "checkpoint_every": 2,
}

MODEL_FILES = ["config.json", "lineage.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def data(tmp_path) -> Path:
    """Shards of uneven sizes, and a validation split that two ranks cannot share evenly."""
    return tmp_path / pack_rooms(tmp_path, {"train-000000": 7, "train-000001": 6, "val-000000": 5})


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def train(config: Path, data: Path | str, out: Path, *overrides: str) -> int:
    sets = [word for override in overrides for word in ("--set", override)]
    return main(["train", str(config), "--data", str(data), "--out", str(out), *sets])


def test_it_writes_a_model_folder_once(config, data, tmp_path, capsys):
    assert train(config, data, tmp_path / "out") == 0
    DapModel.from_folder(tmp_path / "out")
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["settings"]["training"]["steps"] == 4
    assert set(lineage["validation"]) == {"validation/abs_rel", "validation/rmse", "validation/delta1"}
    assert visible(tmp_path / "out") == [*MODEL_FILES, "training"]
    before = hash_local(tmp_path / "out")
    assert train(config, data, tmp_path / "out", "hardware.precision=32-true", "checkpoint_every=3") == 0
    assert "up to date" in capsys.readouterr().err
    assert hash_local(tmp_path / "out") == before
    resolved = tmp_path / "out" / "training" / "config.yaml"
    assert train(resolved, data, tmp_path / "out") == 0
    assert "up to date" in capsys.readouterr().err
    assert yaml.safe_load(resolved.read_text())["training"]["weight_decay"] == 0.01
    assert train(config, data, tmp_path / "again") == 0
    assert hash_local(tmp_path / "again") == before


def test_it_can_be_scraped(config, data, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scraped = []
    written = LiveFolder.add

    def scrape(live, figures, step):
        written(live, figures, step)
        if step == 3:
            scraped.append(urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode())

    monkeypatch.setattr(LiveFolder, "add", scrape)
    arguments = ["--data", str(data), "--out", str(tmp_path / "mine"), "--metrics-port", str(port)]
    assert main(["train", str(config), *arguments]) == 0
    assert 'ray_dap_training_step{model="mine"} 2.0' in scraped[0]
    assert re.search(r'ray_dap_training\{figure="train/total",model="mine"\} \d', scraped[0])
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


@pytest.mark.slow
def test_several_columns_are_one_set_or_mixed_by_weights(config, tmp_path, capsys, s3_uri):
    shards = {"train-a": {"train-000000": 7, "val-000000": 2}, "train-b": {"train-000000": 6}}
    here, there = (tmp_path / pack_rooms(tmp_path, of, column) for column, of in shards.items())
    for path in there.iterdir():
        Storage(s3_uri).write_bytes(f"train-b/{path.name}", path.read_bytes())
    away = str(Place.parse(s3_uri).below("train-b"))
    for out, second in (("one", str(there)), ("other", away)):
        command = ["train", str(config), "--out", str(tmp_path / out), "--data", str(here), "--data", second]
        assert main(command) == 0, capsys.readouterr().err
    assert hash_local(tmp_path / "one") == hash_local(tmp_path / "other"), "wherever they lie"
    lineage = json.loads((tmp_path / "one" / "lineage.json").read_text())
    assert (lineage["settings"]["data"], lineage["inputs"].keys()) == (["train-a", "train-b"], shards.keys())
    weighed = tmp_path / "weighed.yaml"
    weighed.write_text(yaml.safe_dump({**CONFIG, "data": {str(here): 3, away: 1}}))
    assert main(["train", str(weighed), "--out", str(tmp_path / "weighed")]) == 0, capsys.readouterr().err
    assert hash_local(tmp_path / "weighed") != hash_local(tmp_path / "one")
    for problem, words in (
        ("give packed columns", ["--data", str(here)]),
        ("batches.mixture weighs sources", ["--set", "batches.mixture={labelled: 1}"]),
        ("weights cannot be negative", ["--set", f"data={{{here}: 0, {there}: 0}}"]),
        ("are no columns of different names", ["--set", f"data=[{here}, {here}]"]),
    ):
        capsys.readouterr()
        assert main(["train", str(weighed), "--out", str(tmp_path / "none"), *words]) == 2
        assert problem in capsys.readouterr().err


def test_it_streams_from_a_web_server_and_says_what_it_cannot(config, data, tmp_path, capsys):
    with serving(tmp_path, 0.0) as (uri, _):
        address = f"http://{parse_qs(urlsplit(uri).query)['endpoint_override'][0]}/{tmp_path.name}/{data.name}"
        assert train(config, address, tmp_path / "out", "batches.reader=webdataset", "batches.num_workers=1") == 0
        assert "goes on with other samples" in capsys.readouterr().err
        refused = train(config, address, tmp_path / "few", "batches.reader=webdataset", "batches.num_workers=3")
        assert refused == 2
        assert "2 shards cannot be streamed by 1 ranks with 3 workers each" in capsys.readouterr().err
        assert train(config, f"{address}-not", tmp_path / "none", "batches.reader=webdataset") == 2
        assert "index.json" in capsys.readouterr().err
    assert train(config, address, tmp_path / "gone", "batches.reader=webdataset") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Cannot connect" in line
    assert "attempts" not in line, "one try is enough where nobody knows whether a server is there"
    assert train(config, "https://", tmp_path / "gone") == 2
    DapModel.from_folder(tmp_path / "out")


def test_the_help_lists_every_setting_with_its_meaning(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "  training.backbone_lr: float = 5.0e-06\n      peak of the learning rate of the backbone" in text
    assert "  hardware.precision: 32-true or bf16-mixed or 16-mixed or bf16-true or 64-true = 32-true\n" in text
    assert "  init: str or none = null\n" in text
    settings = list(settings_of(Train, without={"model", "data"}))
    assert [setting.path for setting in settings if not setting.meaning] == []
    assert all(f"  {setting.path}: " in text for setting in settings)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(config, data, tmp_path):
    killing = (
        "import os, sys\nfrom dap_engine.jobs import __main__ as m\nfrom dap_engine.jobs.commands import train as t\n"
    )
    killing += "t._log = lambda line: os._exit(9) if line.startswith('step 3/') else None\nm.main(sys.argv[1:])"
    command = ["train", config, "--data", data, "--out", tmp_path / "out"]
    killed = subprocess.run([sys.executable, "-c", killing, *map(str, command)], cwd=REPOSITORY, check=False)
    assert killed.returncode == 9
    assert not (tmp_path / "out" / "lineage.json").exists()
    assert train(config, data, tmp_path / "out") == 0
    assert train(config, data, tmp_path / "undisturbed") == 0
    assert hash_local(tmp_path / "out") == hash_local(tmp_path / "undisturbed")


def test_a_loss_that_is_no_number_is_one_line(config, data, tmp_path, capsys):
    assert train(config, data, tmp_path / "out", "training.decoder_lr=1.0e+30") == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"dap train: step \d: the loss is no number any more: silog .*", last)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_torchrun_trains_on_two_processes_and_writes_one_model(config, data, tmp_path):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "dap_engine.jobs", "train", config]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--data", str(data), "--out", str(tmp_path / "out")],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    DapModel.from_folder(tmp_path / "out")
    assert visible(tmp_path / "out") == [*MODEL_FILES, "training"]
    assert done.stderr.count("step 4/4") == done.stderr.count("validation/abs_rel") == 1
    assert train(config, data, tmp_path / "out") == 0  # where it ran is no part of what it is


def test_data_and_models_may_lie_on_an_object_store(config, tmp_path, s3_uri):
    pack_rooms(tmp_path, {"train-000000": 8})
    store, base, options = RunDir(s3_uri).storage, *s3_uri.split("?")
    for file in sorted((tmp_path / "train-rooms").iterdir()):
        store.write_bytes(f"train-rooms/{file.name}", file.read_bytes())
    uris = [f"{base}/{name}?{options}" for name in ("train-rooms", "models/out")]
    assert main(["train", str(config), "--data", uris[0], "--out", uris[1]]) == 0
    there = list(store.list("models/out"))
    assert [name for name in there if "/" not in name] == MODEL_FILES
    assert "training/metrics.csv" in there


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.steps=3", "unknown setting 'trainig'"),
        ("training.stesp=3", "training: no setting 'stesp'; did you mean 'steps'?"),
        ("hardware.workers.mni=2", "hardware: workers: no setting 'mni'; did you mean 'min'?"),
        ("training.steps=many", "steps"),
        ("training.steps=0", "at least 1"),
        ("batches.batch_size=14", "13 samples to train on do not fill one batch of 14"),
        ("hardware.workers=5", "batch_size 4 is less than an image for each of 5 ranks"),
        ("hardware.workers.min=2 hardware.workers.max=5", "batch_size 4 is less than an image for each of 5 ranks"),
        ("hardware.workers.min=2 hardware.workers.max=1", "workers: min must be at least 1, and max not below it"),
        ("hardware.workers.min=2", "max"),
        ("init=/tmp", "network contradicts init"),
        ("init=/no/such/model network={}", "no such folder"),
        ("init=/tmp network={}", "is no model folder"),
        ("init=run:models/none network={}", "is not there"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(config, data, tmp_path, capsys, override, message):
    assert train(config, data, tmp_path / "out", *override.split()) == 2
    assert message in the_line(capsys)
    assert not (tmp_path / "out").exists()


def the_line(capsys) -> str:
    """What was said, and that it was one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_wrong_place_is_one_clear_line(config, data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (twice := tmp_path / "twice.yaml").write_text("training: {steps: 4}\ntraining: {steps: 5}\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    for wrong, message in [
        ((config, tmp_path / "nothing", tmp_path / "out"), "no index.json"),
        ((config, data, tmp_path / "file"), "is a file"),
        ((config, data, tmp_path / "full"), "holds mine.txt"),
        ((tmp_path / "none.yaml", data, tmp_path / "out"), "no such config file"),
        ((tmp_path / "file", data, tmp_path / "out"), "training"),
        ((twice, data, tmp_path / "out"), f"the key 'training' stands there twice in \"{twice}\", line 2"),
    ]:
        assert train(*wrong) == 2
        assert message in the_line(capsys)
    (data / "train-000001.tar").unlink()
    assert train(config, data, tmp_path / "out") == 2
    assert "train-000001.tar is missing" in the_line(capsys)


def test_another_training_is_not_written_over(config, data, tmp_path, capsys):
    assert train(config, data, tmp_path / "out") == 0
    capsys.readouterr()
    assert train(config, data, tmp_path / "out", "training.steps=5") == 2
    assert "holds the model of another training (setting training changed)" in the_line(capsys)


def test_a_recipe_trains_its_training_steps_alone(tmp_path, capsys, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    size = {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0}
    steps = {
        "rooms": {"step": "simulate", "source_name": "sim", "panoramas": 8, "panoramas_per_shard": 8, "height": HEIGHT},
        "pack": {"step": "pack", "train": "rooms", "sources": [{"images": "labelled-sim"}], "samples_per_shard": 8},
        "labeler": {"step": "train", "model": "labeler", "data": "train-rooms", **CONFIG, "batches": size},
    }
    recipe.write_text(yaml.safe_dump({"name": "small", "executor": "in-process", "steps": steps}))
    run = ["--run-dir", str(tmp_path / "run")]
    assert main(["train", str(recipe), *run]) == 2
    assert "no run directory" in the_line(capsys)
    assert not (tmp_path / "run").exists()
    assert main(["run", str(recipe), *run, "--until", "rooms"]) == 0
    assert main(["train", str(recipe), *run]) == 1
    assert "needs step 'pack', which is not complete" in capsys.readouterr().err
    assert main(["run", str(recipe), *run, "--until", "pack"]) == 0
    with monkeypatch.context() as patched:
        patched.setattr(LiveFolder, "add", Mock(side_effect=KeyboardInterrupt))
        capsys.readouterr()
        assert main(["train", str(recipe), *run]) == 130
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == "dap train: interrupted; the same command resumes"
    assert "failed" not in said
    assert RunDir(str(tmp_path / "run")).failures("models") == {}, "an interrupt is none"
    assert main(["train", str(recipe), *run, "--only", "labeler"]) == 0
    DapModel.from_folder(tmp_path / "run" / "models" / "labeler")
    assert not (tmp_path / "run" / "checkpoints").exists() or not list((tmp_path / "run" / "checkpoints").iterdir())
    assert main(["train", str(recipe), *run]) == 0
    assert "up to date: nothing to do" in capsys.readouterr().err
    assert main(["train", str(recipe), *run, "--only", "pack"]) == 2
    assert "'pack' trains nothing" in capsys.readouterr().err
