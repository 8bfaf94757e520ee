"""`dap publish`: what its cards say, that their code runs where it stands, and that nothing leaves unasked."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard, ModelCard

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.publish.card import Publication, data_card
from dap_engine.jobs.publish.provenance import Provenance
from dap_engine.stages.packing.index import read_index
from tests.jobs.conftest import dap_here  # noqa: F401 - a fixture
from tests.jobs.publish.hub import hub
from tests.jobs.whole_run import whole_run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return whole_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def publish(run_dir, dap_here):  # noqa: F811
    return lambda *arguments: dap_here("publish", "--run-dir", run_dir, *arguments)


def code_of(folder: Path) -> str:
    """All Python of a card."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.S | re.M))


@pytest.fixture
def run_in(tmp_path, monkeypatch, capsys):
    """What a program prints that runs in a folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def run(folder: Path, code: str) -> str:
        capsys.readouterr()
        with monkeypatch.context() as here:
            here.chdir(folder)
            exec(code, {})
        return capsys.readouterr().out

    return run


def test_a_data_set_loads_from_its_folder_as_its_card_says(publish, run_in, run_dir, tmp_path):
    out = tmp_path / "rooms"
    assert publish("--column", "train-selected", "--to", out).stdout == f"{out}\n"
    whole = f"""
from datasets import load_dataset as load
data = load({str(out)!r}, split="train")
print(sorted(data["__key__"]) == sorted(row["__key__"] for row in data), len(data), data[0]["depth.png"].mode)
"""
    first, batch, loaded = run_in(out, code_of(out) + whole).splitlines()
    assert re.fullmatch(r"\S+ \(64, 32\) label\S+", first)
    assert "torch.Size([2, 3, 32, 64]) torch.Size([2, 32, 64])" in batch
    assert loaded == "True 6 I;16"
    for entry in read_index_of(run_dir):
        assert hashlib.sha256((out / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]


def read_index_of(run_dir: Path) -> list[dict]:
    return read_index(RunDir(str(run_dir)).storage, "train-selected")


def test_a_data_set_s_card_says_what_the_hub_reads_and_how_it_was_made(publish, tmp_path):
    publish("--column", "train-selected", "--to", tmp_path / "rooms", "--license", "cc-by-4.0")
    card = DatasetCard.load(tmp_path / "rooms/README.md")
    header = card.data.to_dict()
    assert (header["license"], header["task_categories"]) == ("cc-by-4.0", ["depth-estimation"])
    assert header["size_categories"] == ["n<1K"]
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "train-*.tar"}]
    for line in (
        "| labelled-sim | 4 | simulate |",
        "| labels-1 | 2 | label |",
        "| frames | extract (version 5) | 4 | 6 | black 1, partial 1, unreadable 1 |",
        "recipe `small`",
        "**labels-1**, from frames, models/labeler-1",
        "The depth of labels-1 was predicted by a model.",
        "| not known | 2 |",
    ):
        assert line in card.text, line
    assert re.search(r"\| scores-1 \| 0\.\d{4} \| 0\.\d{4} \| 0\.\d{4} \|", card.text)
    assert re.search(r"\| selection-1 \| \w+ \| 2 \| 0\.\d{4} \|", card.text)
    assert str(tmp_path) not in card.content


@pytest.mark.parametrize(
    ("model", "printed"),
    [("labeler-2", "(256, 512)\ntorch.Size([1, 32, 64]) torch.Size([1, 32, 64])\n"), ("discriminator", "[0.")],
)
def test_a_model_loads_from_its_folder_as_its_card_says(publish, run_in, tmp_path, model, printed):
    out = tmp_path / model
    assert publish("--model", model, "--to", out, "--dataset", "me/rooms").returncode == 0
    assert not (out / "training").exists()
    assert run_in(out, code_of(out)).startswith(printed)
    header = ModelCard.load(out / "README.md").data
    assert header.datasets == ["me/rooms"]
    assert header.pipeline_tag == ("depth-estimation" if model == "labeler-2" else None)


def test_rights_of_videos_are_in_the_card(run_dir):
    """One licence of all is that of the data set; of several, none is."""
    provenance = Provenance.of_column(RunDir(str(run_dir)), "train-selected")
    videos = pa.table(
        {
            "video_id": ["a", "b"],
            "samples": [1, 2],
            "license": ["CC BY 4.0", "CC BY 4.0"],
            "source_url": [None, "https://example.org/b"],
            "attribution": ["Ann", "Bob"],
        }
    )
    it, shards = Publication("train-selected", provenance), read_index_of(run_dir)
    card = DatasetCard(data_card(it, shards, (32, 64), videos))
    assert card.data.license == "cc-by-4.0"
    assert "Attribution: Ann; Bob" in card.text
    other = videos.set_column(2, "license", pa.array(["CC BY 4.0", "CC0"]))
    card = DatasetCard(data_card(it, shards, (32, 64), other))
    assert card.data.license == "other"
    assert "| CC BY 4.0 | 1 |\n| CC0 | 1 |" in card.text


def test_the_same_command_again_copies_nothing_and_heals_what_is_damaged(publish, tmp_path):
    out = tmp_path / "rooms"
    publish("--column", "train-selected", "--to", out)
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.iterdir()}
    (out / "train-000001.tar").write_bytes(b"half")
    assert publish("--column", "train-selected", "--to", out).returncode == 0
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.iterdir()}
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert after["train-000000.tar"] == before["train-000000.tar"]
    assert pq.read_table(out / "videos.parquet")["samples"].to_pylist() == [1, 1]


def test_a_damaged_shard_is_not_published(publish, run_dir, tmp_path, dap_here):  # noqa: F811
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    shard = copy / "train-selected/train-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"simulat", b"SIMULAT").replace(b"outdoor", b"OUTDOOR"))
    done = dap_here("publish", "--run-dir", copy, "--column", "train-selected", "--to", tmp_path / "rooms")
    assert done.returncode == 1
    assert "train-000000.tar: is not what its receipt says" in done.stderr
    assert not (tmp_path / "rooms/README.md").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--column", "frames", "--to", "OUT"], "no packed column 'frames'"),
        (["--model", "nobody", "--to", "OUT"], "no model 'nobody'"),
        (["--model", "labeler-2", "--to", "hf:a/b/c"], "a/b/c"),
        (["--model", "labeler-2", "--to", "OUT", "--private"], "--private goes with --to hf:"),
        (["--column", "train-selected", "--to", "OUT"], "holds notes.txt"),
    ],
)
def test_what_cannot_be_published_is_one_line(publish, tmp_path, arguments, word):
    (tmp_path / "notes.txt").write_text("mine")
    done = publish(*(tmp_path if argument == "OUT" else argument for argument in arguments))
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_the_hub_gets_it_when_it_is_asked_for(run_dir, tmp_path):
    """In a process of its own: the client reads the hub's address when it is imported."""
    command = [sys.executable, "-m", "dap_engine.jobs", "publish", "--run-dir", str(run_dir)]
    command += ["--column", "train-selected", "--to", "hf:me/rooms", "--private"]
    with hub() as server:
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path)}
        env["HF_HUB_DISABLE_XET"] = "1"
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "/datasets/me/rooms" in done.stdout
    assert server.created[0]["visibility"] == "private"
    names = {"README.md", "index.json", "samples.parquet", "videos.parquet", "train-000000.tar", "train-000001.tar"}
    assert server.files.keys() == names
    assert server.files["train-000000.tar"] == (run_dir / "train-selected/train-000000.tar").read_bytes()
    assert b'hf://datasets/me/rooms/train-*.tar"' in server.files["README.md"]
    assert list((tmp_path / "dap-publish").iterdir()) == []
    failed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert failed.returncode == 1
    assert "dap publish: hf:me/rooms: " in failed.stderr
