"""Places and files that are not what they seem: pipes, other users' folders, long clocks, runs that were moved."""

import json
import os
import shutil

import numpy as np
import OpenEXR
import pytest
import yaml
from PIL import Image

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage
from tests.footage import panorama, write_video
from tests.jobs.commands.users import NOBODY, one_line

IN_PROCESS = ["--set", "executor=in-process", "--set", "extract.min_sharpness=0", "--set", "extract.every_s=0.5"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "walk.mp4", [panorama(64, turn=i / 20) for i in range(20)])
    return folder


def extract(dap_here, run_dir, videos):
    return dap_here(
        "run", "curate", "--run-dir", run_dir, "--set", f"videos={videos}", *IN_PROCESS, "--until", "extract"
    )


def test_what_is_no_file_is_told_and_never_waited_for(dap_here, tiny_model, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    options = ["--model", tiny_model, "--out", tmp_path / "out"]
    one_line(dap_here("predict", tmp_path / "pipe.jpg", *options), 2, "pipe.jpg", "not a regular file")
    one_line(dap_here("predict", "/dev/zero", *options), 2, "/dev/zero", "not a regular file")
    one_line(dap_here("predict", tmp_path, *options), 2, tmp_path, "holds no picture and no video")
    entries = json.loads(dap_here("try", "horizon", tmp_path / "pipe.jpg", "/dev/null", "--json").stdout)
    assert [entry["reasons"] for entry in entries] == [["unreadable"], ["unreadable"]]


def test_a_name_with_a_line_break_stays_in_its_line(dap_here, picture, tmp_path):
    shutil.copy(picture, tmp_path / "a\nb.jpg")
    assert len(dap_here("try", "horizon", tmp_path / "a\nb.jpg").stdout.splitlines()) == 2


def test_a_name_that_leaves_no_room_for_a_suffix(dap_here, picture, tiny_model, tmp_path):
    long = tmp_path / ("x" * 251 + ".jpg")
    shutil.copy(picture, long)
    done = dap_here("predict", long, "--model", tiny_model, "--out", tmp_path / "out")
    one_line(done, 1, "file name too long")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", ["CMYK", "1", "P", "LA", "RGBA", "I;16", "L"])
def test_pictures_of_every_kind_of_pixel(dap_here, picture, tiny_model, tmp_path, mode):
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L"), np.uint16) * 257
        file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        (Image.fromarray(grey) if mode == "I;16" else image.convert(mode)).save(file)
    assert dap_here("predict", file, "--model", tiny_model, "--out", tmp_path / "out").returncode == 0


def test_a_panorama_in_exr_is_read_and_one_of_depth_is_told_the_channels(dap_here, tiny_model, tmp_path):
    rgb = np.ones((64, 128, 3), np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": rgb}).write(str(tmp_path / "a.exr"))
    done = dap_here("predict", tmp_path / "a.exr", "--model", tiny_model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": rgb[..., 0]}).write(str(tmp_path / "z.exr"))
    done = dap_here("predict", tmp_path / "z.exr", "--model", tiny_model, "--out", tmp_path / "out")
    one_line(done, 2, "z.exr", "R, G and B")


def test_a_folder_that_is_gone_under_a_command(dap_here, videos, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    one_line(extract(dap_here, "here", videos), 1, "the folder that it was started in is gone")


def test_recipes_as_editors_save_them(dap_here, videos, tmp_path):
    steps = {"plan": {"step": "plan", "videos": str(videos)}}
    text = yaml.safe_dump({"name": "x", "executor": "in-process", "steps": steps}).replace("\n", "\r\n")
    (tmp_path / "bom.yaml").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "utf16.yaml").write_bytes(text.encode("utf-16"))
    assert dap_here("run", tmp_path / "bom.yaml", "--run-dir", tmp_path / "run").returncode == 0
    one_line(dap_here("run", tmp_path / "utf16.yaml", "--run-dir", tmp_path / "run"), 2, "utf16.yaml", "is no text")


@pytest.mark.parametrize("damage", [b"", bytes(100)])
def test_a_saved_recipe_that_a_crash_left_empty_is_named(dap_here, tmp_path, damage):
    (tmp_path / "run.yaml").write_bytes(damage)
    one_line(dap_here("status", "--run-dir", tmp_path), 2, f"{tmp_path}/run.yaml", "not a recipe")


def test_a_data_set_whose_names_are_no_text(dap_here, tmp_path):
    root, name = tmp_path / "data", "bal\udce9"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    (root / "a.png").rename(root / f"{name}.png")
    np.save(root / "a.npy", np.ones((64, 128), np.float32))
    (root / "pairs.txt").write_bytes(b"bal\xe9.png a.npy\n")
    step = {"step": "ingest", "dataset": "airsim360", "root": str(root), "split": "pairs.txt", "source_name": "air"}
    recipe = {"name": "x", "executor": "in-process", "steps": {"ingest": step}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = dap_here("run", tmp_path / "recipe.yaml", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    run = RunDir(str(tmp_path / "run"))
    (row,) = (row for receipt in run.receipts("labelled-air").values() for row in run.rows(receipt))
    assert row.fields["json"]["file"] == "bal\\xe9.png"


def test_clocks_that_jump_by_an_hour_and_videos_of_twelve(dap_here, tmp_path):
    frames = [panorama(64, turn=i / 20) for i in range(20)]
    jumps = [100 * i + (3_600_000 if i >= 10 else 0) for i in range(20)]
    write_video(tmp_path / "jump.mkv", frames, timestamps_ms=jumps)
    write_video(tmp_path / "long.mp4", frames[:3], timestamps_ms=[0, 6 * 3_600_000, 12 * 3_600_000])
    entries = json.loads(dap_here("try", "horizon", tmp_path / "jump.mkv", "--every", "0.5", "--json").stdout)
    assert [entry["timestamp_s"] for entry in entries] == [0.0, 0.5, 3601.0, 3601.5]
    entries = json.loads(dap_here("try", "horizon", tmp_path / "long.mp4", "--every", "7200", "--json").stdout)
    assert [entry["timestamp_s"] for entry in entries] == [0.0, 21600.0, 43200.0]


def test_a_run_that_was_moved_to_a_store_and_back_is_up_to_date(dap_here, videos, s3_uri, tmp_path):
    """Whatever is copied first: a copy keeps no times."""
    assert extract(dap_here, tmp_path / "run", videos).returncode == 0
    files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    for file in files:
        Storage(s3_uri).write_bytes(file.relative_to(tmp_path / "run").as_posix(), file.read_bytes())
    back = Storage(str(tmp_path / "back"))
    for name in Storage(s3_uri).list(""):
        back.write_bytes(name, Storage(s3_uri).read_bytes(name))
    for place in (s3_uri, tmp_path / "back"):
        done = extract(dap_here, place, videos)
        assert "up to date: nothing to do" in done.stderr
        assert dap_here("verify", "--run-dir", place).returncode == 0


def test_a_receipt_of_a_newer_version_counts(dap_here, videos, tmp_path):
    assert extract(dap_here, tmp_path / "run", videos).returncode == 0
    (receipt,) = (tmp_path / "run" / "receipts" / "frames").glob("*.json")
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"a_new_field": [1]}))
    shutil.rmtree(tmp_path / "run" / ".index", ignore_errors=True)
    assert "up to date: nothing to do" in extract(dap_here, tmp_path / "run", videos).stderr
    assert dap_here("verify", "--run-dir", tmp_path / "run").returncode == 0


def test_what_is_hidden_from_a_user_is_dropped_and_the_others_go_on(dap_here, videos, nobody, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o700)
    (tmp_path / "mine").mkdir()
    shutil.copy(videos / "walk.mp4", tmp_path / "walk.mp4")
    os.chown(tmp_path / "mine", NOBODY, NOBODY)
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'locked' / 'a.mp4'}\nwalk.mp4\n")
    options = ["--set", f"videos={tmp_path / 'list.txt'}", *IN_PROCESS, "--until", "plan"]
    dap_here("plan", "curate", "--run-dir", tmp_path / "none", *options)  # everything is imported by root
    with nobody():
        done = dap_here("plan", "curate", "--run-dir", tmp_path / "mine" / "run", *options)
        locked = dap_here("status", "--run-dir", tmp_path / "locked" / "run")
    assert done.returncode == 0, done.stderr
    one_line(locked, 1, "ermission denied", tmp_path / "locked")


def test_the_run_of_somebody_else_can_be_read(dap_here, videos, nobody, tmp_path):
    assert extract(dap_here, tmp_path / "run", videos).returncode == 0
    for command in ("status", "verify"):
        dap_here(command, "--run-dir", tmp_path / "run")
    with nobody():
        codes = [dap_here(command, "--run-dir", tmp_path / "run").returncode for command in ("status", "verify")]
    assert codes == [0, 0]


def test_a_checkpoint_without_permission_is_told(dap_here, nobody, tmp_path):
    (tmp_path / "dap.safetensors").write_bytes(b"0" * 100)
    (tmp_path / "dap.safetensors").chmod(0o600)
    dap_here("convert", tmp_path / "none", "--out", tmp_path / "none")
    with nobody():
        done = dap_here("convert", tmp_path / "dap.safetensors", "--out", tmp_path / "out")
    one_line(done, 2, "dap.safetensors", "permission denied")


def test_a_place_below_a_key_with_an_option_s_look(s3_uri):
    place = Place.parse(s3_uri).below("a?region=x")
    Storage(str(place)).write_bytes("b", b"1")
    assert Storage(s3_uri).list("") == {"a?region=x/b": 1}
