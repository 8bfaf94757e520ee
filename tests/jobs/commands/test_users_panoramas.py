"""Pictures, data sets and weights that users bring, on disks and stores, damaged or named oddly: told by name."""

import json
import os
import shutil
import time

import boto3
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.place import Place
from dap_engine.models.labelers.published import PUBLISHED
from tests.jobs.commands.users import NOBODY, NOT_UTF8, a_pair, drops, one_line, set_state

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
NOWHERE = "endpoint_override=127.0.0.1:9&scheme=http"


@pytest.fixture
def recipe(tmp_path):
    """The file of a recipe of one step, run in process."""

    def write(**step: object):
        file = tmp_path / f"{step['step']}.yaml"
        file.write_text(yaml.safe_dump({"name": "x", "executor": "in-process", "steps": {step["step"]: step}}))
        return file

    return write


def test_what_lies_among_pictures_is_told_and_what_is_damaged_is_dropped(dap_here, nobody, picture, recipe, tmp_path):
    folder, mine = tmp_path / "mine" / "pictures", tmp_path / "mine"
    (folder / "locked").mkdir(parents=True)
    os.chown(mine, NOBODY, NOBODY)
    data = picture.read_bytes()
    for name in (f"{NOT_UTF8}.jpg", "2024-01-01T10:00:00.jpg", "secret.jpg"):
        (folder / name).write_bytes(data)
    for name in ("cut.jpg", "notes.txt", "raw.dng"):
        (folder / name).write_bytes(data[:-1000])
    (folder / "secret.jpg").chmod(0o600)
    (folder / "locked").chmod(0o700)
    step = recipe(step="images", files=str(folder), min_sharpness=0, height=64)
    assert dap_here("run", step, "--run-dir", tmp_path / "everything").returncode == 0  # and all is imported
    with nobody():
        done = dap_here("run", step, "--run-dir", mine / "run")
    assert done.returncode == 0, done.stderr
    assert f"{folder}: 2 files are no pictures, or of kinds that are not read: 1 .txt, 1 .dng" in done.stderr
    assert f"{folder / 'locked'}: permission denied: what lies there is left out" in done.stderr
    assert drops(mine / "run", "photos") == {"damaged": 1, "permission_denied": 1}
    assert drops(tmp_path / "everything", "photos") == {"damaged": 1}
    again = dap_here("run", step, "--run-dir", tmp_path / "everything")
    assert "up to date: nothing to do" in again.stderr
    assert "left out" not in again.stderr


@pytest.mark.parametrize("command", ["plan", "run"])
def test_panoramas_that_nobody_labels_are_not_packed_and_nothing_is_begun(dap_here, picture, tmp_path, command):
    shutil.copy(picture, tmp_path / "a.jpg")
    images = {"step": "images", "files": str(tmp_path)}
    pack = {"step": "pack", "train": "all", "sources": [{"images": ["photos", "rooms"], "labels": "labels-1"}]}
    label = {"step": "label", "images": "photos", "model": "embedded"}
    steps = {"photos": images, "rooms": images | {"column": "rooms"}, "label": label, "pack": pack}
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump({"name": "x", "executor": "in-process", "steps": steps}))
    done = dap_here(command, file, "--run-dir", tmp_path / "run")
    one_line(done, 2, "'pack' reads 'rooms' with the shards of step 'rooms', which are not in 'labels-1'")
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_another_name_removes_nothing(dap_here, footage, picture, tmp_path):
    shutil.copy(picture, tmp_path / "a.jpg")
    tag = {"step": "tag", "model": "embedded"}
    photos = {"images": {"step": "images", "files": str(tmp_path)}, "tag": {**tag, "images": "photos"}}
    films = {"plan": {"step": "plan", "videos": str(footage)}, "extract": {"step": "extract", "height": 96}, "tag": tag}
    for name, steps in (("photos", photos), ("films", films)):
        document = {"name": name, "executor": "in-process", "steps": steps}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    run = ("--run-dir", tmp_path / "run")
    assert dap_here("run", tmp_path / "photos.yaml", *run).returncode == 0
    refused = dap_here("run", tmp_path / "films.yaml", *run)
    one_line(refused, 2, "is of the recipe 'photos', and 1 of its outputs might be removed: give another --run-dir")
    assert "up to date: nothing to do" in dap_here("run", tmp_path / "photos.yaml", *run).stderr


def test_a_data_set_of_a_store_with_keys_that_are_no_files(dap_here, s3_uri, s3_endpoint, recipe, tmp_path):
    """What no disk can hold is left out, nothing is made or removed elsewhere, and a second run has nothing to do."""
    a_pair(tmp_path / "data")
    victim = tmp_path / "victim.tar"
    victim.write_bytes(b"mine")
    image, depth = (tmp_path / "data" / name for name in ("rgb/0.jpg", "0.npy"))
    listed = ['"a b.jpg" 0.npy', "ü.jpg 0.npy", "cut.jpg 0.npy", "gone.jpg 0.npy"]
    keys = {name: image.read_bytes() for name in ("a b.jpg", "ü.jpg", "a+%23?.jpg")}
    keys |= {
        "cut.jpg": image.read_bytes()[:-3000],
        "0.npy": depth.read_bytes(),
        "pairs.txt": "\n".join(listed).encode(),
    }
    keys |= {"a+%23?.jpg/x": b"x", f"/{victim}"[1:]: b"yours", "x" * 300: b"x", "c//d.jpg": b"x", "../up.tar": b"x"}
    place, client = Place.parse(s3_uri), boto3.client("s3", endpoint_url=f"http://{s3_endpoint}")
    for key, data in keys.items():
        client.put_object(Bucket=place.root.removeprefix("s3://"), Key=f"{place.path}/{key}", Body=data)
    step = recipe(step="ingest", dataset="airsim360", root=s3_uri, split="pairs.txt", source_name="air")
    run_dir = tmp_path / "run"
    done = dap_here("run", step, "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    run = RunDir(str(run_dir))
    assert run.receipts("labelled-air").samples[1] == 2
    assert run.receipts("labelled-air").drops == {"bad_image": 1, "missing_file": 1}
    details = pq.read_table(run_dir / "drops" / "labelled-air" / "000000.parquet")["detail"].to_pylist()
    assert f"{place.root}/{place.path}/cut.jpg: damaged" in str(details)
    counts = json.loads(dap_here("status", "--run-dir", run_dir, "--json").stdout)["columns"]["labelled-air"]
    assert (counts["shards_done"], counts["samples_out"]) == (1, 2)
    assert "up to date: nothing to do" in dap_here("run", step, "--run-dir", run_dir).stderr
    key = f"{place.path}/cut.jpg"
    client.put_object(Bucket=place.root.removeprefix("s3://"), Key=key, Body=image.read_bytes())
    assert dap_here("run", step, "--run-dir", run_dir).returncode == 0
    assert RunDir(str(run_dir)).receipts("labelled-air").samples[1] == 3, "what lies in a store has changed"
    shards = recipe(step="ingest", dataset="shards", root=s3_uri, source_name="air")
    one_line(dap_here("run", shards, "--run-dir", tmp_path / "other"), 2, "no tar shards there")
    assert victim.read_bytes() == b"mine"


def test_a_store_of_footage_that_cannot_be_reached_is_asked_once(dap_here, recipe, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "true")
    (tmp_path / "list.txt").write_text("".join(f"s3://nowhere/{n}.jpg?{NOWHERE}\n" for n in range(4)))
    step = recipe(step="images", files=str(tmp_path / "list.txt"))
    began_s = time.monotonic()
    assert dap_here("run", step, "--run-dir", tmp_path / "run").returncode == 0
    assert drops(tmp_path / "run", "photos") == {"unreachable": 4}
    step = recipe(step="images", files=f"s3://nowhere/list.txt?{NOWHERE}")
    one_line(dap_here("run", step, "--run-dir", tmp_path / "other"), 2, "s3://nowhere/list.txt", "onnect")
    assert time.monotonic() - began_s < 15


def test_an_object_that_is_not_there_is_said_to_be_none(dap_here, s3_uri, recipe, tmp_path):
    step = recipe(step="images", files=str(Place.parse(s3_uri).below("list.txt")))
    one_line(dap_here("run", step, "--run-dir", tmp_path / "run"), 2, "list.txt", "no such object")


def test_pictures_and_truths_without_permission_are_not_called_damaged(dap_here, nobody, picture, tmp_path):
    root = tmp_path / "root"
    for folder in ("image", "depth"):
        (root / folder).mkdir(parents=True)
    shutil.copy(picture, root / "image" / "a.jpg")
    np.save(root / "depth" / "a.npy", np.ones((128, 256), np.float32))
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / "out", NOBODY, NOBODY)
    command = ["evaluate", "--dataset", "perspective", "--root", root, "--model", f"python:{__name__}:ones"]
    assert dap_here(*command, "--out", tmp_path / "out" / "all").returncode == 0
    for hidden in (root / "depth" / "a.npy", root / "image" / "a.jpg"):
        hidden.chmod(0o600)
        os.chown(tmp_path / "out" / "all", NOBODY, NOBODY)
        with nobody():
            done = dap_here(*command, "--out", tmp_path / "out" / "mine")
        one_line(done, 2, f"{hidden}: permission denied")
        hidden.chmod(0o644)
    (root / "image").chmod(0o600)
    with nobody():
        done = dap_here(*command, "--out", tmp_path / "out" / "mine")
    one_line(done, 2, f"permission denied: {root / 'image'}")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    with nobody():
        done = dap_here("predict", locked, "--out", tmp_path / "out" / "mine")
    one_line(done, 1, f"{locked}: permission denied")


def ones(rgb):
    return np.ones(rgb.shape[:2], np.float32)


def test_weights_of_any_model_that_are_pointers_are_found_before_any_work(
    dap_here, published, picture, recipe, tmp_path
):
    for scheme in (*PUBLISHED, "diffusers"):
        place = tmp_path / "pointers" / scheme
        place.mkdir(parents=True)
        file = place / {"panda": "x.pth", "dac": "x.pt", "moge": "model.pt"}.get(scheme, "unet.safetensors")
        file.write_text(POINTER)
        model = f"{scheme}:{file if scheme == 'panda' else place}"
        done = dap_here("predict", picture, "--model", model, "--out", tmp_path / "out")
        one_line(done, 2, file, "pointer of Git LFS")
        if scheme == "moge":
            shutil.copy(tmp_path / "weights" / "moge-True" / "model.pt", file)
            file.write_bytes(file.read_bytes()[:-100])
            one_line(dap_here("predict", picture, "--model", model, "--out", tmp_path / "out"), 2, file, "is cut")
    pipeline = tmp_path / "pipeline"
    (pipeline / "vae").mkdir(parents=True)
    (pipeline / "model_index.json").write_text("{}")
    file = pipeline / "vae" / "model.safetensors"
    file.write_text(POINTER)
    step = recipe(step="generate", model=str(pipeline), panoramas=1)
    one_line(dap_here("run", step, "--run-dir", tmp_path / "run"), 2, file, "pointer of Git LFS")
    (pipeline / "config.json").write_text('{"model_type": "qwen2_vl"}')
    shutil.copy(file, pipeline)
    done = dap_here("try", "tag", picture, "--model", pipeline)
    one_line(done, 2, pipeline / "model.safetensors", "pointer of Git LFS")


def test_a_report_that_does_not_fit_on_the_disk_leaves_nothing(dap_here, full_disk, picture, recipe, tmp_path):
    step = recipe(step="images", files=str(picture), min_sharpness=0, height=64)
    assert dap_here("run", step, "--run-dir", tmp_path / "run").returncode == 0
    set_state(full_disk, "full")
    done = dap_here("report", "--run-dir", tmp_path / "run", "--out", full_disk / "report")
    assert done.returncode == 1, done.stderr
    assert "disk full" in done.stderr
    assert [path.name for path in full_disk.iterdir()] == ["rest"]
