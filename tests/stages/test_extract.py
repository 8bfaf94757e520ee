"""Extraction: good videos give frames, bad ones a drop, and no video harms another."""

import csv
import os
import pickle
import resource
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from dap_engine.engine.planning.recipe import RecipeError
from dap_engine.engine.planning.settings import build_settings
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.steps.step import StageContext
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.data.images import resize_rgb
from dap_engine.models.frames.summary import HOPELESS_AFTER, MIN_VALID_SHARE
from dap_engine.models.frames.yaw_hash import hash_distance, yaw_hash
from dap_engine.models.geometry.equirectangular import rotation_matrix
from dap_engine.models.horizon.check import PanoramaCheck, check_file
from dap_engine.models.horizon.projection import measure_projection
from dap_engine.models.horizon.sphere_view import turned
from dap_engine.models.horizon.tilt import TiltEstimator
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from dap_engine.stages.extract import Extract
from tests.footage import panorama, perspective, without_picture, write_video

MAY_REPEAT = {"near_duplicate", "frozen"}  # what a good video may lose


def sample(path: Path | str, video_id: str | None = None) -> Sample:
    plan = {"uri": str(path), "bytes": 1, "split": "train"}
    return Sample(video_id or Path(path).stem, {"plan": plan})


def outputs_of(video: Path, height: int = 192, **settings) -> list[Row | Drop]:
    stage = Extract(**{"every_s": 0.5, "height": height, **settings})
    stage.setup(StageContext(Storage("/"), stage.assets()))
    outputs = list(stage.process([sample(video)]))
    stage.teardown()
    return outputs


@pytest.fixture
def extract(tmp_path):
    stage = pickle.loads(pickle.dumps(Extract(every_s=0.5, height=64)))  # noqa: S301 - as Ray sends it
    stage.setup(StageContext(Storage(str(tmp_path))))
    yield stage
    stage.teardown()


def places(count: int, height: int = 128, frames: int = 5) -> list[np.ndarray]:
    """A look at one place after the other, each half a second long at ten frames a second."""
    return [panorama(height, seed, turn=turn / 20) for seed in range(count) for turn in range(frames)]


@pytest.fixture
def good(tmp_path) -> Path:
    return write_video(tmp_path / "good.mp4", places(4))


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
    filmed = measure_projection(resize_rgb(places(4)[5], 64, 128))
    assert metadata["horizon"]["seam_gap"] == pytest.approx(filmed.seam_gap, abs=0.2)  # the codec's share


def test_every_kept_frame_carries_its_measurements(extract, good):
    metadata = [row.fields["json"] for row in extract.process([sample(good)])]
    assert all(set(one["quality"]) == {"brightness", "flat_share", "sharpness"} for one in metadata)
    assert len({one["hash"] for one in metadata}) == len(metadata)
    assert all(len(one["hash"]) == 64 for one in metadata)
    assert [one["shot"] for one in metadata] == sorted(one["shot"] for one in metadata)


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
    frames = [panorama(128)] * 5 + [np.zeros((128, 256, 3), np.uint8)] * 5 + [panorama(128, 1)] * 5
    outputs = list(extract.process([sample(write_video(tmp_path / "v.mp4", frames))]))
    assert [type(output) for output in outputs] == [Row, Drop, Row]
    assert (outputs[1].key, outputs[1].code) == ("v-00000005", "black")


def test_a_frame_that_does_not_come_out_is_dropped_by_name(extract, tmp_path):
    whole = write_video(tmp_path / "whole.mp4", places(12), gop=1)
    video = without_picture(whole, tmp_path / "v.mp4", 20)
    outputs = list(extract.process([sample(video)]))
    assert [output.key for output in outputs] == [f"v-{5 * number:08d}" for number in range(12)]
    assert [(output.key, output.code) for output in outputs if isinstance(output, Drop)] == [
        ("v-00000020", "not_decoded")
    ]


def test_what_is_shown_once_more_is_dropped_also_turned_and_after_a_cut(extract, tmp_path):
    frames = [panorama(128, 0)] * 10 + [panorama(128, 1)] * 5 + [panorama(128, 0, turn=2)] * 5
    outputs = list(extract.process([sample(write_video(tmp_path / "v.mp4", frames))]))
    codes = {output.key: output.code if isinstance(output, Drop) else "" for output in outputs}
    assert codes.pop("v-00000005") in MAY_REPEAT  # how still depends on the codec
    assert codes == {"v-00000000": "", "v-00000010": "", "v-00000015": "near_duplicate"}
    extract.near_duplicate_bits = None
    assert all(isinstance(output, Row) for output in extract.process([sample(tmp_path / "v.mp4")]))


def test_a_dissolve_is_dropped_and_the_shots_count_on(extract, tmp_path):
    bright, dark = (
        np.clip(panorama(128, seed) * 0.5 + plus, 0, 255).astype(np.uint8) for seed, plus in ((0, 110), (1, 0))
    )
    middle = (bright // 2 + dark // 2).astype(np.uint8)
    frames = [bright] * 5 + [middle] * 5 + [dark] * 5
    first, blend, last = extract.process([sample(write_video(tmp_path / "v.mp4", frames))])
    assert blend == Drop("v-00000005", "transition")
    assert (first.fields["json"]["shot"], last.fields["json"]["shot"]) == (0, 1)


def test_a_video_of_which_nothing_is_kept_is_one_drop(extract, tmp_path):
    frames = [np.zeros((128, 256, 3), np.uint8)] * 20
    assert list(extract.process([sample(write_video(tmp_path / "v.mp4", frames))])) == [
        Drop("v", "black", "4 of 4 frames")
    ]


def test_the_most_frames_are_spread_over_the_video(extract, tmp_path):
    extract.max_frames = 3
    rows = list(extract.process([sample(write_video(tmp_path / "v.mp4", places(12)))]))
    times_s = [row.fields["json"]["timestamp_s"] for row in rows]
    assert len(times_s) == 3
    assert times_s[0] < 2 < times_s[1] < 4 < times_s[2]


def test_a_lucky_frame_does_not_save_a_bad_video(extract, tmp_path):
    frames = [panorama(128)] * 5 + [perspective(128, seed) for seed in range(20)]
    (drop,) = extract.process([sample(write_video(tmp_path / "v.mp4", frames))])
    assert drop.key == "v"
    assert drop.code in ("perspective", "open_seam")


def test_hopeless_videos_are_not_decoded_to_the_end(tmp_path):
    video = write_video(tmp_path / "v.mp4", [perspective(96, seed) for seed in range(3 * HOPELESS_AFTER)])
    (drop,) = outputs_of(video, height=64, every_s=0.1)
    assert f"of {HOPELESS_AFTER} frames" in drop.detail


def test_a_decoder_killed_mid_video_costs_one_video_and_can_be_retried(extract, good, monkeypatch):
    """Kills the child for real while it decodes the first of two videos."""
    from dap_engine.models.frames import analyzer as module

    def kill_once(rgb):
        monkeypatch.undo()
        os.kill(extract._decoder.pid, signal.SIGKILL)
        return module.measure_frame(rgb)

    monkeypatch.setattr(module, "measure_frame", kill_once)
    extract.every_s = 0.1  # more frames than are decoded ahead
    first, *rest = extract.process([sample(good, "a"), sample(good, "b")])
    assert first == Drop("a", "decode_crashed", first.detail, retryable=True)
    assert [output.key for output in rest if isinstance(output, Row)] == [f"b-{i:08d}" for i in (0, 5, 10, 15)]


@pytest.fixture
def stereo(tmp_path) -> Path:
    """Two eyes on top of each other, of a camera that goes from place to place; nothing declares it."""
    eyes = [np.vstack([frame, np.roll(frame, 2, axis=1)]) for frame in places(4, frames=1) for _ in range(5)]
    return write_video(tmp_path / "stereo.mp4", eyes)


def test_one_eye_is_read_where_that_is_asked_for(stereo):
    (drop,) = outputs_of(stereo, height=64)
    assert (drop.key, drop.code) == ("stereo", "stereo_top_bottom")
    rows = outputs_of(stereo, height=64, stereo="left_eye")
    assert [row.key for row in rows] == [f"stereo-{i:08d}" for i in (0, 5, 10, 15)]
    left = simplejpeg.decode_jpeg(rows[0].fields["jpg"])
    assert left.shape == (64, 128, 3)
    assert hash_distance(yaw_hash(left), yaw_hash(panorama(64, 0))) < 30


@pytest.fixture
def leaning(tmp_path) -> Path:
    """A video of two simulated streets, by a camera that leans 40° to its right."""
    streets = labelled_panoramas(seed=990, count=2, look="synthetic", height=192, kinds=["outdoor"] * 2)
    lean = rotation_matrix(roll_deg=40).numpy()
    return write_video(
        tmp_path / "leaning.mp4", [frame for street in streets for frame in [turned(street.rgb, lean, 192)] * 5]
    )


def test_a_tilted_video_is_dropped_where_a_limit_is_set(leaning):
    (drop,) = outputs_of(leaning, max_tilt_deg=15)
    assert (drop.key, drop.code) == ("leaning", "tilted")
    assert len(outputs_of(leaning)) == 2


def test_the_estimate_is_in_the_metadata(leaning):
    row = outputs_of(leaning, max_tilt_deg=90)[0]
    horizon = row.fields["json"]["horizon"]
    assert horizon["roll_deg"] == pytest.approx(40, abs=12)
    assert horizon["pitch_deg"] == pytest.approx(0, abs=12)
    assert 0 < horizon["confidence"] < 1
    assert not horizon["levelled"]


def test_a_tilted_panorama_is_turned_upright_where_that_is_asked_for(leaning):
    row = outputs_of(leaning, max_tilt_deg=15, level=True)[0]
    horizon = row.fields["json"]["horizon"]
    assert horizon["levelled"]
    assert horizon["roll_deg"] == pytest.approx(40, abs=12)  # as it was found
    assert TiltEstimator().estimate(simplejpeg.decode_jpeg(row.fields["jpg"])).tilt_deg < 12


@pytest.mark.parametrize(
    "settings",
    [
        {"every_s": 0},
        {"height": 2},
        {"jpeg_quality": 0},
        {"max_tilt_deg": 0},
        {"level": True},
        {"max_frames": 0},
        {"min_sharpness": -0.1},
        {"max_flat_share": 0},
        {"near_duplicate_bits": 255},
        {"stereo": "right_eye"},
        {"snap_to_keyframes": "sometimes"},
    ],
)
def test_wrong_settings_are_one_clear_line(settings):
    with pytest.raises(RecipeError, match=r"^step 'extract': ") as caught:
        build_settings(Extract, settings, where="step 'extract'")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_memory_stays_flat_however_long_a_video_is(tmp_path):
    """Ten times the frames, all kept: what grows is what a frame's row and metadata need, not its pixels."""
    grown = []
    for name, count in (("short", 30), ("long", 300)):
        video = write_video(tmp_path / f"{name}.mp4", places(count, height=64, frames=1), gop=20)
        stage = Extract(every_s=0.1, height=512, min_sharpness=0)
        stage.setup(StageContext(Storage("/")))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(isinstance(output, Row) for output in stage.process([sample(video)])) > 0.8 * count
        grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        stage.teardown()
    assert grown[1] < 64 << 10  # KiB; the pixels of 270 frames would be 425 MB


@pytest.mark.shared
@pytest.mark.slow
def test_real_footage(shared_data):
    """But for 1 in 20, 360° videos and panoramas are kept, all else is dropped; prints the whole table (pytest -s)."""
    with open(shared_data / "MANIFEST.csv", newline="") as file:
        files = {row["file"]: row for row in csv.DictReader(file) if row["file"].startswith(("videos", "panos", "neg"))}
    lost, passed = [], []
    for name, row in files.items():
        entries = [checked.entry for checked in check_file(shared_data / name, 2.0, 512, PanoramaCheck())]
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
@pytest.mark.slow
def test_real_videos_through_the_stage(shared_data):
    with open(shared_data / "MANIFEST.csv", newline="") as file:
        expect = {Path(row["file"]).name: row["expect"] for row in csv.DictReader(file) if "videos/" in row["file"]}
    stage = Extract(height=256)
    stage.setup(StageContext(Storage("/")))
    for name, verdict in sorted(expect.items()):
        outputs = list(stage.process([sample(shared_data / "videos" / name, name.replace(".", "_"))]))
        rows = [output for output in outputs if isinstance(output, Row)]
        if verdict == "keep":
            assert rows, name
            assert {output.code for output in outputs if isinstance(output, Drop)} <= MAY_REPEAT, name
        elif verdict == "drop":
            assert [output.key for output in outputs] == [name.replace(".", "_")], name
            assert outputs[0].code, name
    stage.teardown()
