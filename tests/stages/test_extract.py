"""Extraction: good videos give frames, bad ones a drop, and no video harms another."""

import csv
import os
import pickle
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from engine.stage import Drop, Row, Sample
from models.erp import rotation_matrix
from models.horizon import inspect_file
from models.simulator.panoramas import labelled_panoramas
from models.sphere_view import turned
from models.tilt import TiltEstimator
from stages.extract import HOPELESS_AFTER, MIN_VALID_SHARE, Extract
from tests.footage import panorama, perspective, write_video


def sample(path: Path | str, video_id: str | None = None) -> Sample:
    plan = {"uri": str(path), "bytes": 1, "split": "train"}
    return Sample(video_id or Path(path).stem, {"plan": plan})


@pytest.fixture
def extract(tmp_path):
    stage = pickle.loads(pickle.dumps(Extract(every_s=0.5, height=64)))  # noqa: S301 - as Ray sends it
    stage.setup({"run": str(tmp_path)})
    yield stage
    stage.teardown()


@pytest.fixture
def good(tmp_path) -> Path:
    return write_video(tmp_path / "good.mp4", [panorama(128, turn=i / 20) for i in range(20)])


def test_rows(extract, good):
    rows = list(extract.process([sample(good)]))
    assert [row.key for row in rows] == ["good-00000000", "good-00000005", "good-00000010", "good-00000015"]
    assert simplejpeg.decode_jpeg(rows[0].fields["jpg"]).shape == (64, 128, 3)
    metadata = rows[1].fields["json"]
    assert metadata["timestamp_s"] == pytest.approx(0.5, abs=2e-3)
    assert {key: metadata[key] for key in ("video_id", "frame_index", "width", "height", "split")} == {
        "video_id": "good",
        "frame_index": 5,
        "width": 128,
        "height": 64,
        "split": "train",
    }
    assert metadata["horizon"]["seam_gap"] < 1


def test_same_bytes_twice(extract, good):
    first, second = (list(extract.process([sample(good)])) for _ in range(2))
    assert first == second


def test_file_uris_and_footage_of_the_run(extract, good, tmp_path):
    by_path = list(extract.process([sample(good)]))
    assert list(extract.process([sample(good.as_uri(), "good")])) == by_path
    assert list(extract.process([sample("run:good.mp4", "good")])) == by_path


def test_bad_videos_are_dropped_whole_and_harm_nobody(extract, good, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    write_video(tmp_path / "lens.mp4", [perspective(128, seed) for seed in range(20)])
    names = ["cut", "empty", "good", "lens", "missing"]
    outputs = list(extract.process([sample(tmp_path / f"{name}.mp4") for name in names]))
    drops = {output.key: output.code for output in outputs if isinstance(output, Drop)}
    assert drops.pop("lens") in ("perspective", "open_seam")
    assert drops == {"cut": "truncated", "empty": "empty_file", "missing": "missing_file"}
    assert [output.key for output in outputs if isinstance(output, Row)] == [f"good-{i:08d}" for i in (0, 5, 10, 15)]
    assert [output.key for output in outputs] == sorted(output.key for output in outputs)


def test_a_bad_frame_of_a_good_video_is_dropped_alone(extract, tmp_path):
    frames = [panorama(128)] * 5 + [np.zeros((128, 256, 3), np.uint8)] * 5 + [panorama(128)] * 5
    outputs = list(extract.process([sample(write_video(tmp_path / "v.mp4", frames))]))
    assert [type(output) for output in outputs] == [Row, Drop, Row]
    assert (outputs[1].key, outputs[1].code) == ("v-00000005", "blank")


def test_a_lucky_frame_does_not_save_a_bad_video(extract, tmp_path):
    frames = [panorama(128)] * 5 + [perspective(128, seed) for seed in range(20)]
    (drop,) = extract.process([sample(write_video(tmp_path / "v.mp4", frames))])
    assert drop.key == "v"
    assert drop.code in ("perspective", "open_seam")


def test_hopeless_videos_are_not_decoded_to_the_end(tmp_path):
    video = write_video(tmp_path / "v.mp4", [perspective(96)] * (3 * HOPELESS_AFTER))
    stage = Extract(every_s=0.1, height=64)
    stage.setup({"run": str(tmp_path)})
    (drop,) = stage.process([sample(video)])
    stage.teardown()
    assert drop.detail.startswith(f"{HOPELESS_AFTER} of {HOPELESS_AFTER} frames")


def test_a_decoder_killed_mid_video_costs_one_video_and_can_be_retried(extract, good, monkeypatch):
    """Kills the child for real while it decodes the first of two videos."""
    from stages import extract as module

    def kill_once(rgb, aspect):
        monkeypatch.undo()
        os.kill(extract._decoder.pid, signal.SIGKILL)
        return module.check_panorama(rgb, aspect)

    monkeypatch.setattr(module, "check_panorama", kill_once)
    extract.height = 1024  # larger than the socket's buffer: the child is still sending
    outputs = list(extract.process([sample(good, "a"), sample(good, "b")]))
    assert outputs[0] == Drop("a", "decode_crashed", outputs[0].detail, retryable=True)
    assert [output.key for output in outputs[1:]] == [f"b-{i:08d}" for i in (0, 5, 10, 15)]


@pytest.fixture
def leaning(tmp_path) -> Path:
    """A video of a simulated street, by a camera that leans 40° to its right."""
    (street,) = labelled_panoramas(seed=990, count=1, look="synthetic", height=192, kinds=["outdoor"])
    rgb = turned(street.rgb, rotation_matrix(roll_deg=40).numpy(), 192)
    return write_video(tmp_path / "leaning.mp4", [rgb] * 10)


def outputs_of(video: Path, **settings) -> list[Row | Drop]:
    stage = Extract(every_s=0.5, height=192, **settings)
    stage.setup({"run": "", **stage.assets()})
    outputs = list(stage.process([sample(video)]))
    stage.teardown()
    return outputs


def test_a_tilted_video_is_dropped_where_a_limit_is_set(leaning):
    (drop,) = outputs_of(leaning, max_tilt_deg=15)
    assert (drop.key, drop.code) == ("leaning", "tilted")
    assert len(outputs_of(leaning)) == 2


def test_the_estimate_is_in_the_metadata(leaning):
    (row, _) = outputs_of(leaning, max_tilt_deg=90)
    horizon = row.fields["json"]["horizon"]
    assert horizon["roll_deg"] == pytest.approx(40, abs=12)
    assert horizon["pitch_deg"] == pytest.approx(0, abs=12)
    assert 0 < horizon["confidence"] < 1
    assert not horizon["levelled"]


def test_a_tilted_panorama_is_turned_upright_where_that_is_asked_for(leaning):
    (row, _) = outputs_of(leaning, max_tilt_deg=15, level=True)
    horizon = row.fields["json"]["horizon"]
    assert horizon["levelled"]
    assert horizon["roll_deg"] == pytest.approx(40, abs=12)  # as it was found
    assert TiltEstimator().estimate(simplejpeg.decode_jpeg(row.fields["jpg"])).tilt_deg < 12


@pytest.mark.parametrize(
    "settings", [{"every_s": 0}, {"height": 2}, {"jpeg_quality": 0}, {"max_tilt_deg": 0}, {"level": True}]
)
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="extract"):
        Extract(**settings)


@pytest.mark.shared
def test_real_footage(shared_data):
    """But for 1 in 20, 360° videos and panoramas are kept, all else is dropped; prints the whole table (pytest -s)."""
    with open(shared_data / "MANIFEST.csv", newline="") as file:
        files = {row["file"]: row for row in csv.DictReader(file) if row["file"].startswith(("videos", "panos", "neg"))}
    lost, passed = [], []
    for name, row in files.items():
        entries = inspect_file(shared_data / name)
        kept = sum(entry["valid"] for entry in entries) > (1 - MIN_VALID_SHARE) * len(entries)
        codes = Counter(entry["reasons"][0] for entry in entries if entry["reasons"])
        print(f"{row['expect']:7}{'keep' if kept else 'drop':5} {name:66} {row['projection']:22} {dict(codes)}")
        if row["expect"] == "keep" and not kept:
            lost.append(name)
        if row["expect"] == "drop" and kept:
            passed.append(name)
    expected = Counter(row["expect"] for row in files.values())
    assert len(passed) <= 0.05 * expected["drop"], passed
    assert len(lost) <= 0.05 * expected["keep"], lost


@pytest.mark.shared
def test_real_videos_through_the_stage(shared_data):
    with open(shared_data / "MANIFEST.csv", newline="") as file:
        expect = {Path(row["file"]).name: row["expect"] for row in csv.DictReader(file) if "videos/" in row["file"]}
    stage = Extract(height=256)
    stage.setup({"run": ""})
    for name, verdict in sorted(expect.items()):
        outputs = list(stage.process([sample(shared_data / "videos" / name, name.replace(".", "_"))]))
        if verdict == "keep":
            assert outputs, name
            assert all(isinstance(output, Row) for output in outputs), name
        elif verdict == "drop":
            assert [output.key for output in outputs] == [name.replace(".", "_")], name
            assert outputs[0].code, name
    stage.teardown()
