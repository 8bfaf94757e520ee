"""Files as users have them: odd names, cut pictures, full disks, damaged models. Each is said in one line, by name."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage import faults
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.network.dap import DapModel
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from dap_engine.models.network.published import published_layout
from tests.footage import panorama, write_video
from tests.jobs.commands.users import NOT_UTF8, a_pair, drops, one_line, set_state
from tests.jobs.packed import HEIGHT, TINY, pack_rooms
from tests.models.datasets import layouts
from tests.models.network.test_published import SMALL
from tests.models.published_reference import seeded_weights

SHARP = ["--set", "extract.min_sharpness=0", "--set", "extract.every_s=0.5"]  # of footage as simple as this


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = [panorama(64, turn=i / 20) for i in range(20)]
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", frames)


def test_a_picture_whose_name_is_not_utf8(dap_here, picture, tiny_model, tmp_path):
    file = tmp_path / f"{NOT_UTF8}.jpg"
    shutil.copy(picture, file)
    done = dap_here("predict", file, "--model", tiny_model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / f"{NOT_UTF8}.depth.png").is_file()
    assert (tmp_path / "out" / f"{NOT_UTF8}.colour.png").is_file()
    done = dap_here("try", "horizon", file, "--out", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn" / f"{NOT_UTF8}.horizon.png").is_file()


def test_videos_whose_names_are_not_utf8_are_planned_and_read(dap_here, video, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in (f"{NOT_UTF8}.mp4", "good.mp4", "2024-01-01T10:00:00.mp4", "what?.mp4", "50%25.mp4"):
        shutil.copy(video, folder / name)
    options = ["--set", f"videos={folder}", "--set", "executor=in-process", "--until", "extract"]
    done = dap_here("run", "curate", "--run-dir", tmp_path / "run", *options, *SHARP)
    assert done.returncode == 0, done.stderr
    planned = dap_here("lineage", "--run-dir", tmp_path / "run", "bal-" + "0" * 10, "--json")
    run = RunDir(str(tmp_path / "run"))
    kept = {row.fields["json"]["video_id"] for receipt in run.receipts("frames").values() for row in run.rows(receipt)}
    assert len(kept) == 5, drops(tmp_path / "run", "frames")
    assert "Traceback" not in planned.stderr


def test_ids_do_not_depend_on_the_locale(dap_here, tmp_path):
    folder = tmp_path / "vidéos"
    folder.mkdir()
    for name in ("日本.mp4", f"{NOT_UTF8}.mp4", "été.mp4"):
        (folder / name).write_bytes(name.encode(errors="surrogateescape"))
    (folder / "list.txt").write_bytes("日本.mp4\nété.mp4\n".encode() + b"bal\xe9.mp4\n")
    options = ["--set", f"videos={folder}", "--set", "executor=in-process", "--until", "plan"]
    assert dap_here("run", "curate", "--run-dir", tmp_path / "here", *options).returncode == 0
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options[1] = f"videos={folder / 'list.txt'}"
    command = [sys.executable, "-m", "dap_engine.jobs", "run", "curate", "--run-dir", str(tmp_path / "there"), *options]
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = [pq.read_table(tmp_path / name / "plan" / "000000.parquet") for name in ("here", "there")]
    assert tables[0].equals(tables[1])


def test_a_relative_name_with_a_colon(dap_here, video, picture, tmp_path, monkeypatch):
    shutil.copy(video, tmp_path / "2024-01-01T10:00:00.mp4")
    shutil.copy(picture, tmp_path / "2024-01-01T10:00:00.jpg")
    monkeypatch.chdir(tmp_path)
    done = dap_here("try", "horizon", "2024-01-01T10:00:00.mp4", "2024-01-01T10:00:00.jpg", "--json")
    reasons = {reason for entry in json.loads(done.stdout) for reason in entry["reasons"]}
    assert not reasons & {"truncated", "unreadable"}


def test_a_clock_that_starts_again_goes_on(dap_here, tmp_path):
    """Two recordings of two seconds, joined: all frames of both, at running times."""
    parts = []
    for number in range(2):
        frames = [panorama(64, seed=number, turn=i / 20) for i in range(20)]
        parts.append(write_video(tmp_path / f"{number}.ts", frames).read_bytes())
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    for part in ("0", "1"):
        entries = json.loads(dap_here("try", "horizon", tmp_path / f"{part}.ts", "--every", "0.5", "--json").stdout)
        assert len(entries) == 4
    entries = json.loads(dap_here("try", "horizon", tmp_path / "joined.ts", "--every", "0.5", "--json").stdout)
    times = [entry["timestamp_s"] - entries[0]["timestamp_s"] for entry in entries]
    assert times == pytest.approx([0.5 * n for n in range(8)], abs=0.21)
    assert all(entry["reasons"] != ["decode_failed"] for entry in entries)


def test_a_clock_that_starts_late_makes_no_video_longer(dap_here, tmp_path):
    frames, folder = [panorama(64, turn=i / 20) for i in range(20)], tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "late.mkv", frames, timestamps_ms=[3_600_000 + 100 * i for i in range(20)])
    options = ["--set", f"videos={folder}", "--set", "executor=in-process", "--until", "plan"]
    assert dap_here("run", "curate", "--run-dir", tmp_path / "run", *options).returncode == 0
    (planned,) = (tmp_path / "run" / "plan").glob("*.parquet")
    assert pq.read_table(planned)["seconds"].to_pylist() == pytest.approx([2.0], abs=0.2)


@pytest.fixture(
    params=[
        "jpg",
        "png",
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("progressive.jpg", "webp", "tif", "bmp", "gif")),
    ]
)
def good(request, picture, tmp_path):
    """A whole picture of each format."""
    file = tmp_path / f"a.{request.param}"
    options = {"progressive": True} if "progressive" in file.name else {}
    with Image.open(picture) as image:
        image.save(file, **options)
    return file


def test_a_cut_picture_is_refused_by_name(dap_here, good, tiny_model, tmp_path):
    assert dap_here("predict", good, "--model", tiny_model, "--out", tmp_path / "out").returncode == 0
    cut = tmp_path / f"cut{good.suffix}"
    data = good.read_bytes()
    for part in (data[: len(data) // 2], data[: -len(data) // 50]):
        cut.write_bytes(part)
        one_line(dap_here("predict", cut, "--model", tiny_model, "--out", tmp_path / "cut"), 2, cut, "damaged")
    done = dap_here("predict", cut, good, "--model", tiny_model, "--out", tmp_path / "both")
    assert done.returncode == 1
    assert str(cut) in done.stderr
    assert (tmp_path / "both" / f"{good.stem}.depth.png").is_file()
    assert not list((tmp_path / "both").glob("cut*"))
    (entry,) = json.loads(dap_here("try", "horizon", cut, "--json").stdout)
    assert (entry["valid"], entry["reasons"]) == (False, ["damaged"])
    one_line(dap_here("try", "depth", cut, "--model", tiny_model, "--out", tmp_path / "tried"), 2, cut, "damaged")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_damaged_in_its_middle_is_refused(dap_here, picture, tiny_model, tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    with Image.open(picture) as image:
        image.save(file)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\x55" * 40
    file.write_bytes(data)
    one_line(dap_here("predict", file, "--model", tiny_model, "--out", tmp_path / "out"), 2, file, "damaged")


def test_pictures_are_told_by_their_content(dap_here, picture, tiny_model, tmp_path):
    for name in ("camera.insp", "wrong.mp4", "none"):
        shutil.copy(picture, tmp_path / name)
        done = dap_here("predict", tmp_path / name, "--model", tiny_model, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    done = dap_here("predict", tmp_path / "phone.heic", "--model", tiny_model, "--out", tmp_path / "out")
    one_line(done, 2, "phone.heic", "JPEG, PNG, WebP, TIFF")


def test_an_evaluation_refuses_a_cut_picture(dap_here, tiny_model, tmp_path):
    options = [*a_pair(tmp_path), "--model", tiny_model, "--out", tmp_path / "out"]
    assert dap_here("evaluate", *options).returncode == 0
    image = tmp_path / "rgb" / "0.jpg"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    one_line(dap_here("evaluate", *options), 2, image, "damaged")


def test_an_evaluation_refuses_a_cut_exr(dap_here, tiny_model, tmp_path):
    layouts.matterport3d(tmp_path)
    options = ["--dataset", "matterport3d", "--root", tmp_path, "--model", tiny_model, "--out", tmp_path / "out"]
    assert dap_here("evaluate", *options).returncode == 0
    (depth,) = tmp_path.rglob("*.exr")
    depth.write_bytes(depth.read_bytes()[:-100])
    one_line(dap_here("evaluate", *options), 2, depth, "damaged")


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_full_or_read_only_place_is_one_line(dap_here, full_disk, picture, video, tiny_model, tmp_path, state):
    set_state(full_disk, state)
    before = sorted(full_disk.iterdir())
    for command in (
        ["predict", picture, "--model", tiny_model, "--ply"],
        ["predict", video, "--model", tiny_model, "--video"],
        ["try", "depth", picture, "--model", tiny_model],
        ["try", "horizon", picture],
    ):
        one_line(dap_here(*command, "--out", full_disk), 1, full_disk, "disk full" if state == "full" else "read-only")
        assert sorted(full_disk.iterdir()) == before
    if state == "read-only":
        one_line(dap_here("predict", picture, "--model", tiny_model, "--out", full_disk / "new"), 1, "read-only")


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_whatever_a_command_writes_it_says_if_it_cannot(dap_here, full_disk, tiny_model, tmp_path, monkeypatch, state):
    """Figures, a converted model, simulated panoramas, a run, and a training: one line or more, never "done"."""
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.05)
    weights = seeded_weights(published_layout(SMALL).expected(DapModel.skeleton(SMALL)), seed=1)
    torch.save(weights, tmp_path / "official.pth")
    data = tmp_path / pack_rooms(tmp_path, {"train-000000": 4, "val-000000": 4})
    settings = {"training": {"steps": 2}, "network": {"config": TINY}, "hardware": {"accelerator": "cpu"}}
    settings |= {"batches": {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0}, "checkpoint_every": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    set_state(full_disk, state)
    before = sorted(full_disk.iterdir())
    scene = a_pair(tmp_path / "scenes")
    small = ["--panoramas", "1", "--height", "64", "--executor", "in-process"]
    for command, code in {
        ("evaluate", *scene, "--model", tiny_model, "--out", full_disk): {1},
        ("convert", tmp_path / "official.pth", "--out", full_disk): {1},
        ("train", tmp_path / "config.yaml", "--data", data, "--out", full_disk / "model"): {1},
        ("simulate", *small, "--out", full_disk / "run"): {1, 3},
    }.items():
        done = dap_here(*command)
        assert done.returncode in code, (command, done.stderr)
        assert str(full_disk) in done.stderr
        assert ("disk full" if state == "full" else "read-only") in done.stderr, (command, done.stderr)
        assert "done" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    left = {path.name for path in full_disk.iterdir()} - {path.name for path in before}
    assert left <= {"images.csv", "model", "run"}
    assert not list(full_disk.rglob("*.safetensors")) + list(full_disk.rglob("*.tar"))


def test_a_model_that_does_not_fit_on_the_disk_is_not_there(full_disk, tiny_model):
    from dap_engine.engine.storage.storage import StorageError
    from dap_engine.jobs.output import write_folder
    from dap_engine.models.network.dap import DapModel

    model = DapModel.from_folder(tiny_model)
    with pytest.raises(StorageError, match="disk full"):
        write_folder(full_disk, model.save_pretrained)
    assert list(full_disk.iterdir()) == []


def damaged_weights(folder, how):
    file = folder / "model.safetensors"
    if how == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif how == "bin":
        file.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"pickled")
    elif how == "empty":
        file.write_bytes(b"")
    return "pytorch_model.bin" if how == "bin" else str(file)


@pytest.mark.parametrize("how", ["pointer", "cut", "bin", "empty"])
def test_damaged_weights_are_found_before_any_work(dap_here, picture, video, tiny_model, tmp_path, how):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    named = damaged_weights(folder, how)
    one_line(dap_here("predict", picture, "--model", folder, "--out", tmp_path / "out"), 2, named)
    one_line(dap_here("try", "depth", picture, "--model", folder), 2, named)
    recipe = ["--set", f"videos={video.parent}", "--set", "executor=in-process"]
    for setting in (f"label.model={folder}", f"label.model=hf:{folder}", f"tag.model={folder}"):
        done = dap_here("run", "curate", "--run-dir", tmp_path / "run", *recipe, "--set", setting)
        one_line(done, 2, named)
        assert not (tmp_path / "run").exists()


def with_nan(folder, to):
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    weights[min(weights)][:] = float("nan")
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def test_a_model_that_gives_no_numbers_labels_nothing(dap_here, picture, video, tiny_model, tmp_path):
    model = with_nan(tiny_model, tmp_path / "nan")
    one_line(dap_here("predict", picture, "--model", model, "--out", tmp_path / "out"), 1, model, "no number")
    one_line(dap_here("try", "depth", picture, "--model", model, "--out", tmp_path / "out"), 1, model, "no number")
    assert not list((tmp_path / "out").iterdir())
    Discriminator.new(DiscriminatorConfig.tiny(), seed=0).save_pretrained(tmp_path / "judge")
    judge = with_nan(tmp_path / "judge", tmp_path / "nan-judge")
    one_line(dap_here("try", "quality", picture, "--model", judge, "--labeler", tiny_model), 1, judge, "no number")

    options = ["--set", f"videos={video.parent}", "--set", "executor=in-process", *SHARP]
    done = dap_here("run", "curate", "--run-dir", tmp_path / "run", *options, "--set", f"label.model={model}")
    assert done.returncode == 1
    assert "no number" in done.stderr
    assert not (tmp_path / "run" / "labels-1").exists()


@pytest.mark.slow
def test_lists_as_people_save_them(dap_here, video, tmp_path):
    uris = [video.name, "https://example.org/a.mp4"]
    text = "\n".join(uris)
    (video.parent / "utf8.txt").write_bytes(text.encode("utf-8-sig"))
    (video.parent / "utf16.txt").write_bytes(text.encode("utf-16"))
    columns = {
        "bytes": pa.array([uri.encode() for uri in uris]),
        "large": pa.array(uris, pa.large_string()),
        "dictionary": pa.array(uris).dictionary_encode(),
    }
    for name, column in columns.items():
        pq.write_table(pa.table({"uri": column}), video.parent / f"{name}.parquet")
    for name in ("utf8.txt", "utf16.txt", *(f"{name}.parquet" for name in columns)):
        options = ["--set", f"videos={video.parent / name}", "--set", "executor=in-process", "--until", "extract"]
        done = dap_here("run", "curate", "--run-dir", tmp_path / name, *options)
        assert done.returncode in (0, 3), done.stderr
        found = drops(tmp_path / name, "frames")
        assert "missing_file" not in found
        assert found["unreachable"] == 1
    for name, column in {"int": pa.array([1]), "float": pa.array([1.0])}.items():
        pq.write_table(pa.table({"uri": column}), tmp_path / f"{name}.parquet")
        done = dap_here("run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={tmp_path / name}.parquet")
        one_line(done, 2, f"{name}.parquet", "not text")
    (tmp_path / "list.csv").write_text("uri\na.mp4\n")
    done = dap_here("run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={tmp_path / 'list.csv'}")
    one_line(done, 2, "list.csv", "no list")


@pytest.mark.slow
def test_footage_of_a_store_under_odd_keys(dap_here, video, s3_uri, tmp_path):
    """A list that lies on S3, of keys that want no escaping; the run lies there, too, under such a key."""
    place = Place.parse(s3_uri)
    names = ["with space.mp4", "ünï.mp4", "50%25.mp4", "what?.mp4", "a#b+c.mp4"]
    for name in names:
        Storage(s3_uri).write_bytes(f"my videos/{name}", video.read_bytes())
    lines = [*names[:2], *(str(place.below(f"my videos/{name}")) for name in names[2:])]
    Storage(s3_uri).write_bytes("my videos/list.txt", "\n".join(lines).encode())
    run_dir = str(place.below("run of 50% #1?"))
    options = ["--set", "executor=in-process", "--until", "extract", *SHARP]
    for source in ("my videos/list.txt", "my videos"):
        done = dap_here("run", "curate", "--run-dir", run_dir, "--set", f"videos={place.below(source)}", *options)
        assert done.returncode == 0, done.stderr
        run = RunDir(run_dir)
        kept = {row.fields["json"]["video_id"] for part in run.receipts("frames").values() for row in run.rows(part)}
        assert len(kept) == 5
    assert dap_here("verify", "--run-dir", run_dir).returncode == 0
    assert Storage(s3_uri).list("run of 50% #1?")


def test_a_list_names_web_servers_and_licences(dap_here, video, tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=video.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        urls = [f"{root}/{quote(video.name)}", f"{root}/gone.mp4", f"{root}/other.mp4"]
        table = pa.table({"uri": urls, "license": ["cc-by-4.0", "cc-by-4.0", None]})
        pq.write_table(table, tmp_path / "list.parquet")
        options = ["--set", "executor=in-process", "--until", "extract", "--set", "plan.licenses=[cc-by-4.0]", *SHARP]
        place = ["--run-dir", tmp_path / "run"]
        command = ["run", "curate", *place, "--set", f"videos={tmp_path / 'list.parquet'}", *options]
        assert dap_here(*command).returncode == 0
        run = RunDir(str(tmp_path / "run"))
        assert run.receipts("plan").drops == {"license": 1}
        assert run.receipts("frames").drops == {"unreachable": 2}
        allowed = dap_here(*command, "--set", "extract.fetch.private_addresses=true")
        assert "up to date: nothing to do" in allowed.stderr  # how videos are fetched is not what they are
        assert dap_here("retry", *place, "--column", "frames", "--code", "unreachable").returncode == 0
        server.shutdown()
    assert run.receipts("frames").drops["unreachable"] == 1
    assert run.receipts("frames").samples[1] > 0


def test_places_that_are_not_read_are_told_before_any_work(dap_here, video, tmp_path):
    options = ["--set", "executor=in-process"]
    for uri in (
        "https://example.org/a.mp4",
        "ftp://example.org/a.mp4",
        "hf://datasets/a/b.mp4",
        "s3://b/a//b.mp4?region=eu",
    ):
        done = dap_here("run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={uri}", *options)
        one_line(done, 2, uri.partition("?")[0], "read")
        done = dap_here("run", "curate", "--run-dir", uri, "--set", f"videos={video.parent}", *options)
        one_line(done, 2, uri.partition("?")[0], "read")
    (tmp_path / "list.txt").write_text(f"{video}\n\ns3://\n")
    done = dap_here(
        "run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={tmp_path / 'list.txt'}", *options
    )
    one_line(done, 2, "list.txt: line 3: s3://: names no bucket")
    assert not (tmp_path / "run").exists()


def test_a_store_that_cannot_be_reached_is_one_quick_line(dap_here, video, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "true")  # else they are asked for on the network
    for uri in ("s3://b/run?", "gs://anonymous@b/run?"):
        place = f"{uri}scheme=http&endpoint_override=127.0.0.1:9"
        for command in (["status"], ["verify"], ["run", "curate", "--set", f"videos={video.parent}"]):
            began_s = time.monotonic()
            one_line(dap_here(*command, "--run-dir", place), 1, place.partition("?")[0][-5:], "onnect")
            assert time.monotonic() - began_s < 8


def test_what_is_left_out_of_a_folder_is_told(dap_here, video, tmp_path):
    folder = tmp_path / "a [2024] trip"
    folder.mkdir()
    shutil.copy(video, folder)
    for name in ("a.insv", "b.360", "c.360", "notes"):
        (folder / name).write_bytes(b"?")
    options = ["--set", "executor=in-process", "--until", "plan"]
    done = dap_here("run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={folder}", *options)
    assert "4 files are no videos, or of kinds that are not read: 2 .360, 1 .insv, 1 without a suffix" in done.stderr
    done = dap_here("run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={folder}/*.mp4", *options)
    one_line(done, 2, "* ? [ ] are wildcards")


@pytest.mark.slow
def test_who_reads_the_output_may_leave_or_not_be_there(tmp_path):
    command = f"{sys.executable} -m dap_engine.jobs plan demo --run-dir {tmp_path / 'run'} --json"
    for redirect in ("| true", ">&-"):
        done = subprocess.run(["bash", "-c", f"{command} {redirect}"], capture_output=True, text=True, check=False)
        assert done.stderr == "", redirect
    done = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    one_line(done, 1, "No space left")
