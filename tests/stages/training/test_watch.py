"""What is seen of a training: figures that a kill leaves whole, validations, pictures, the best models, loggers."""

import csv
import io
import json
import math
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import simplejpeg
import torch

from dap_engine.engine.storage.storage import Storage, hash_local
from dap_engine.models.network.dap import DapModel
from dap_engine.models.training.modules import DapTraining
from dap_engine.models.training.validation import Validation
from dap_engine.stages.training.checkpoints import StoredCheckpoints
from dap_engine.stages.training.fit import fit
from dap_engine.stages.training.live import LiveFolder, MetricsCsv
from dap_engine.stages.training.resume import Resume
from dap_engine.stages.training.settings import Hardware, Watching
from dap_engine.stages.training.train import Network
from dap_engine.stages.training.watch import pl
from tests.jobs.packed import TINY, pack_rooms
from tests.stages.training.test_fit import DATA, SETTINGS, STEPS, InterruptedTrainingError, interrupt_at, same_weights

WATCHING = Watching(validate_every=3, validate_samples=4, keep=1, loggers=["tests.stages.training.test_watch.Failing"])
LIVE = "models/rooms/training"


class Failing(pl.loggers.CSVLogger):
    """Fails at the third step."""

    seen: ClassVar[list[int]] = []

    def __init__(self):
        super().__init__(tempfile.mkdtemp())

    def log_hyperparams(self, params=None):
        assert params == {"lr": 1}

    def log_metrics(self, metrics, step=None):
        if step == 3:
            raise ConnectionError("no answer")
        self.seen.append(step)


def train(place: Path, log=lambda _: None, every: int = 3, watching: Watching = WATCHING) -> DapModel:
    network, storage = Network(config=TINY).build(None, None), Storage(str(place))
    module, data = DapTraining(network, SETTINGS), DATA.module(storage, "train-rooms")
    resume = Resume(storage, "checkpoints/rooms.ckpt", every, LIVE)
    fit(module, data, STEPS, Hardware(accelerator="cpu"), resume, log, watching=watching, config={"lr": 1})
    return network


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[Path, DapModel, list[str]]:
    """A training that was interrupted in step 5, and went on from its checkpoint of step 3."""
    place = tmp_path_factory.mktemp("shown")
    pack_rooms(place, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    lines: list[str] = []
    with pytest.raises(InterruptedTrainingError):
        train(place, lambda line: (lines.append(line), interrupt_at(5)(line)))
    network = train(place, lines.append)
    return place / LIVE, network, lines


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_no_step_is_missing_or_there_twice(shown):
    folder, *_ = shown
    rows = rows_of(folder)
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    for name in ("train/total", "lr/backbone", "lr/decoder", "grad_norm", "samples_per_s", "waiting", "memory_gib"):
        assert all(math.isfinite(float(row[name])) for row in rows), name
    assert [row["step"] for row in rows if row["validation/abs_rel"]] == ["3", "6", "8"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    for name in ("train/total", "lr/decoder"):
        assert [event.step for event in events.Scalars(name)] == list(range(1, STEPS + 1))
    assert events.Scalars("train/total")[3].value == pytest.approx(float(rows[3]["train/total"]), rel=1e-4)
    assert [event.step for event in events.Scalars("validation/abs_rel")] == [3, 6, 8]


def test_what_is_seen_changes_nothing(shown, tmp_path):
    _, network, _ = shown
    pack_rooms(tmp_path, {"train-000000": 7, "train-000001": 6, "val-000000": 5})
    assert same_weights(network, train(tmp_path, watching=Watching(validate_every=100, keep=0)))
    assert [row["step"] for row in rows_of(tmp_path / LIVE) if row["validation/abs_rel"]] == ["8"]
    assert not (tmp_path / LIVE / "best").exists()


def test_pictures_come_with_every_validation(shown):
    folder, *_ = shown
    assert sorted(path.name for path in (folder / "images").iterdir()) == [f"step-00000{n}.jpg" for n in (3, 6, 8)]
    pixels = simplejpeg.decode_jpeg((folder / "images" / "step-000008.jpg").read_bytes())
    assert pixels.shape == (16 + 4 * DATA.image_height, 5 * 2 * DATA.image_height, 3)


def test_the_best_model_is_kept_beside_the_last(shown):
    folder, *_ = shown
    (best,) = (folder / "best").iterdir()
    errors = {row["step"]: float(row["validation/abs_rel"]) for row in rows_of(folder) if row["validation/abs_rel"]}
    assert best.name == f"step-{int(min(errors, key=errors.__getitem__)):06d}"
    kept = json.loads((best / "validation.json").read_text())
    assert kept["validation/abs_rel"] == pytest.approx(min(errors.values()), rel=1e-4)
    DapModel.from_folder(best)


def test_a_logger_by_class_path_is_told_and_may_fail(shown):
    assert Failing.seen == [1, 2, 4, 5, 6, 6, 7, 8, 8]
    assert "Failing failed, the training goes on without it: no answer" in shown[-1]
    with pytest.raises(ValueError, match=r"loggers: no class 'no\.such\.Logger'"):
        Watching(loggers=["no.such.Logger"]).check()


def test_a_bar_is_shown_on_a_terminal_alone(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    pack_rooms(tmp_path, {"train-000000": 7})
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(tmp_path, watching=replace(WATCHING, loggers=[]))
    assert f"{STEPS}/{STEPS}" in terminal.getvalue()
    assert "━" in terminal.getvalue()


def test_a_row_that_a_kill_cut_is_written_again_and_new_columns_keep_the_old_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path, 0)
    for step in range(1, 6):
        log.add({"loss": step / 2}, step)
    log.close()
    path.write_text(path.read_text() + "1")  # of "12,6.0"
    log = MetricsCsv(path, 4)
    log.add({"loss": 2.5}, 5)
    log.add({"validation": 7}, 5)
    log.add({"loss": 3.0}, 6)
    log.close()
    assert path.read_text().splitlines() == ["step,loss,validation",
                                             "1,0.5,", "2,1,", "3,1.5,", "4,2,", "5,2.5,7", "6,3,"]  # fmt: skip


def test_the_live_folder_lies_on_an_object_store_too(s3_uri):
    storage = Storage(s3_uri)
    live = LiveFolder(storage, "training", 0)
    live.add({"loss": 1.0}, 1)
    live.flush()
    live.upload()
    live.add({"loss": 0.5}, 2)
    live.close()
    live = LiveFolder(storage, "training", 1)
    live.add({"loss": 0.25}, 2)
    live.write("images/step-000002.jpg", b"picture")
    live.close()
    assert storage.read_bytes("training/metrics.csv") == b"step,loss\n1,1\n2,0.25\n"
    assert sum("tfevents" in name for name in storage.list("training")) == 2


def test_figures_are_given_by_source_scene_and_distance():
    truth_m = torch.full((3, 4, 8), 5.0)
    truth_m[1] = 15.0
    batch = {"depth_m": truth_m, "valid": truth_m > 0, "source": ["a", "b", "b"], "scene": ["indoor", "outdoor", ""]}
    batch["valid"][2] = False  # a filled place
    validation = Validation()
    validation.add(torch.stack([truth_m[0] * 1.1, truth_m[1] * 1.3, truth_m[2]]), batch)
    figures = validation.compute()
    assert figures["validation/abs_rel"] == pytest.approx(0.2)
    assert figures["validation/source/a/abs_rel"] == figures["validation/scene/indoor/abs_rel"] == pytest.approx(0.1)
    assert figures["validation/0-10m/abs_rel"] == pytest.approx(0.1)
    assert figures["validation/10-20m/abs_rel"] == pytest.approx(0.3)
    assert figures["validation/source/b/10-20m/abs_rel"] == pytest.approx(0.3)
    assert "validation/20-50m/abs_rel" not in figures
    assert validation.compute() == {}


def test_the_training_folder_is_no_content_of_a_model(tmp_path):
    storage = Storage(str(tmp_path / "run"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    storage.write_bytes("models/a/training/metrics.csv", b"step\n1\n")
    storage.write_bytes("models/a/old.json", b"")
    output = storage.publish(tmp_path / "model", "models/a")
    assert list(storage.list("models/a")) == ["config.json", "training/metrics.csv"]
    assert output.sha256 == storage.hash_object("models/a") == hash_local(tmp_path / "run" / "models" / "a")


def test_a_checkpoint_is_written_while_the_training_goes_on(tmp_path, monkeypatch):
    storage, weight, writing = Storage(str(tmp_path)), torch.zeros(3), threading.Event()
    publish = Storage.publish
    monkeypatch.setattr(Storage, "publish", lambda *arguments: writing.wait(10) and publish(*arguments))
    storage.write_bytes("last.ckpt", b"the one before")
    checkpoints = StoredCheckpoints(Resume(storage, "last.ckpt", 1))
    checkpoints.save_checkpoint({"weight": weight}, "last.ckpt")
    weight += 1  # the next step, which did not wait
    assert storage.read_bytes("last.ckpt") == b"the one before"
    writing.set()
    checkpoints.teardown()
    assert torch.load(tmp_path / "last.ckpt")["weight"].tolist() == [0, 0, 0]

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Storage, "publish", refuse)
    checkpoints.save_checkpoint({"weight": weight}, "last.ckpt")
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save_checkpoint({"weight": weight}, "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt")["weight"].tolist() == [0, 0, 0]


def test_a_logger_that_cannot_be_made_is_said_before_any_work():
    csv_logger = "lightning.pytorch.loggers.CSVLogger"
    Watching(loggers=[{"class_path": csv_logger, "init_args": {"save_dir": "logs"}}]).check()
    with pytest.raises(ValueError, match=r"CSVLogger: missing a required argument: 'save_dir'; its arguments stand in"):
        Watching(loggers=[csv_logger]).check()
    with pytest.raises(ValueError, match=r"no class .*Nothing"):
        Watching(loggers=["lightning.pytorch.loggers.Nothing"]).check()
