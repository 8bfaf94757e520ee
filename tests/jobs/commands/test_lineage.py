"""`dap lineage`: every packed sample back to its video and second, every model to its data."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.engine.rundir.drops import read_drops
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Storage, hash_local
from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.stages.fuse_scale import FuseScale
from tests.engine.verification.damage import forge_output, forge_receipt
from tests.footage import panorama, write_video
from tests.jobs.whole_run import whole_run
from tests.runs import FRAMES, Bring, finished, frame, noise_depth_m

VIDEO, DROPPED = "b-db0f8b31c1", "b-db0f8b31c1-00000005"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return whole_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def chosen(whole) -> str:
    """The frame that was selected first."""
    selection = rows_of(whole / "selection-1/000000.parquet")
    return min(selection, key=lambda key: selection[key]["rank"])


@pytest.fixture
def run(whole, tmp_path) -> RunDir:
    """A copy of the run, to be changed."""
    return RunDir(str(shutil.copytree(whole, tmp_path / "run")))


@pytest.fixture
def lineage(capsys, whole):
    """The JSON document of `dap lineage`."""

    def ask(*arguments: str, uri: object = whole) -> dict:
        assert main(["lineage", "--run-dir", str(uri), "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def rows_of(path: Path) -> dict[str, dict]:
    return {next(iter(row.values())): row for row in pq.read_table(path).to_pylist()}


def json_of(path: Path, key: str) -> dict:
    with tarfile.open(path) as tar:
        member = tar.extractfile(f"{key}.json")
        assert member
        return json.load(member)


# From a sample


def test_a_frame_back_to_the_second_of_its_video(lineage, whole, chosen):
    document = lineage(chosen)
    video, frame = document["video"], document["frame"]
    video_id, _, index = chosen.rpartition("-")
    assert (document["key"], document["kind"], document["drops"]) == (chosen, "frame", [])
    assert (video["video_id"], video["object"]) == (video_id, "plan/000000.parquet")
    assert Path(video["uri"]).name == f"{video_id[0]}.mp4"
    assert (frame["frame_index"], frame["timestamp_s"]) == (int(index), pytest.approx(int(index) / 10, abs=2e-3))
    assert frame["object"] == "frames/000000.tar"
    assert frame["horizon"] == json_of(whole / "frames/000000.tar", chosen)["horizon"]


def test_what_each_column_says_of_it_and_by_what_weights(lineage, whole, chosen):
    document = lineage(chosen)
    tag = rows_of(whole / "tags/000000.parquet")[chosen]
    assert [document["tag"][name] for name in ("scene", "p_indoor", "model")] == list(tag.values())[1:]
    (label,), (score,), (selection,) = document["labels"], document["scores"], document["selections"]
    assert label["median_m"] == json_of(whole / "labels-1/000000.tar", chosen)["median_m"]
    labeler = {"name": "labeler-1", "sha256": hash_local(whole / "models/labeler-1"), "in_run": True}
    assert (label["round"], label["column"], label["weights"]) == (1, "labels-1", {"model": labeler})
    assert score["score"] == rows_of(whole / "scores-1/000000.parquet")[chosen]["score"]
    assert score["weights"]["model"]["name"] == "discriminator"
    row = rows_of(whole / "selection-1/000000.parquet")[chosen]
    assert (selection["rank"], selection["scene"], selection["round"]) == (row["rank"], row["scene"], 1)
    receipt = json.loads((whole / "receipts/labels-1/000000.json").read_text())
    assert (label["step"], label["version"], label["fingerprint"]) == ("label", 3, receipt["fingerprint"])


def test_labels_of_a_steady_scale_are_labels(lineage, capsys, tmp_path):
    frames = [frame(f"a-{number}", number, shot=0) for number in range(2)]
    labels = [
        Row(one.key, {"depth.png": encode_depth_png(noise_depth_m(0) * scale), "json": {}})
        for one, scale in zip(frames, (1, 4), strict=True)
    ]
    given = Bring(TarColumn("labels-1", ("depth.png", "json")), {"000000": labels})
    finished(tmp_path, Bring(FRAMES, {"000000": frames}), given, FuseScale())
    (tmp_path / "run.yaml").touch()
    (label,) = lineage("a-0", uri=tmp_path)["labels"]
    assert (label["round"], label["column"], label["step"]) == (2, "labels-2", "fuse-scale")
    assert label["scale_factor"] == pytest.approx(2, rel=0.01)
    assert main(["lineage", "--run-dir", str(tmp_path), "a-0"]) == 0
    assert re.search(r"label of round 2: .* m, median .* m, times [12][.\d]* \(labels-2", capsys.readouterr().out)


def test_every_packed_sample_is_found_where_it_lies_and_what_learned_from_it(lineage, whole):
    teaches = {"train-labelled": {"labeler-1", "discriminator"}, "train-selected": {"labeler-2"}}
    held: dict[str, set[str]] = {}
    for path in whole.glob("train-*/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                held.setdefault(member.name.partition(".")[0], set()).add(path.relative_to(whole).as_posix())
    assert len(held) == 6
    for key, objects in held.items():
        document = lineage(key)
        assert {entry["object"] for entry in document["training"]} == objects
        assert {entry["split"] for entry in document["training"]} == {"train"}
        columns = {path.split("/")[0] for path in objects}
        models = {model["name"]: model for model in document["models"]}
        assert set(models) == set().union(*(teaches[column] for column in columns))
        assert all(model["current"] for model in models.values())
        assert {name: model["sha256"] for name, model in models.items()} == {
            name: hash_local(whole / "models" / name) for name in models
        }


def test_frames_that_were_not_selected(lineage, whole):
    scored, selected = rows_of(whole / "scores-1/000000.parquet"), rows_of(whole / "selection-1/000000.parquet")
    assert scored.keys() > selected.keys()
    for key in scored.keys() - selected.keys():
        document = lineage(key)
        assert document["frame"]["video_id"] == key.rpartition("-")[0]
        assert (len(document["scores"]), document["selections"]) == (1, [])
        assert (document["training"], document["models"]) == ([], [])


def test_a_dropped_frame(lineage, whole):
    document = lineage(DROPPED)
    row = rows_of(whole / "drops/frames/000000.parquet")[DROPPED]
    assert document["drops"] == [{"column": "frames", "shard": "000000", **row}]
    assert row["attempt"] == 1
    assert (document["frame"], document["labels"], document["training"]) == (None, [], [])
    assert document["video"]["video_id"] == VIDEO


def test_a_video_and_where_its_frames_went(lineage, chosen):
    document = lineage(VIDEO)
    frames = [(frame["key"], frame["timestamp_s"]) for frame in document["frames"]]
    assert frames == [(f"{VIDEO}-00000000", 0.0), (f"{VIDEO}-00000010", 1.0)]
    assert [drop["key"] for drop in document["drops"]] == [DROPPED]
    document = lineage(chosen.rpartition("-")[0])
    assert chosen in [entry["key"] for entry in document["training"]]
    assert [model["name"] for model in document["models"]] == ["labeler-2"]


@pytest.mark.parametrize("video", ["noise-805a7b4210", "lens-29fe59ee64"])
def test_a_dropped_video_and_a_frame_that_it_might_have_had(lineage, whole, video):
    code = rows_of(whole / "drops/frames/000001.parquet")[video]["code"]
    for key in (video, f"{video}-00000005"):
        document = lineage(key)
        assert [(drop["key"], drop["code"]) for drop in document["drops"]] == [(video, code)]
        assert document["video"]["shard"] == "000001"
    assert lineage(video)["frames"] == []


def test_a_video_that_was_never_planned(lineage, capsys, tmp_path):
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", [panorama(32, seed=ord(name))])
    rights = {"uri": ["a.mp4", "b.mp4"], "license": ["CC0-1.0", "all rights reserved"]}
    pq.write_table(pa.table(rights), tmp_path / "videos.parquet")
    recipe = {"executor": "in-process", "steps": {"plan": {"step": "plan", "videos": str(tmp_path / "videos.parquet")}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = ["run", str(tmp_path / "recipe.yaml"), "--run-dir", str(tmp_path / "run")]
    assert main([*command, "--set", "plan.licenses=[cc0-1.0]"]) == 0
    run = RunDir(str(tmp_path / "run"))
    (dropped,) = (drop for receipt in run.receipts("plan").values() for drop in read_drops(run, receipt))
    document = lineage(dropped.key, uri=run.uri)
    assert [drop["code"] for drop in document["drops"]] == ["license"]
    assert (document["kind"], document["training"], document["models"]) == ("video", [], [])
    assert main(["lineage", "--run-dir", run.uri, dropped.key]) == 0
    assert "license all rights reserved" in " ".join(capsys.readouterr().out.split())


def test_labelled_panoramas_packed_and_held_out(lineage, whole):
    packed, held_out = lineage("synthetic_4_000001_02"), lineage("synthetic_4_000000_01")
    assert (packed["kind"], packed["panorama"]["object"]) == ("labelled", "labelled-sim/000001.tar")
    assert packed["panorama"]["scene_id"] == "synthetic_4_000001"
    assert (held_out["panorama"]["split"], held_out["panorama"]["object"]) == ("test", "labelled-sim/000000.tar")
    assert (held_out["training"], held_out["models"]) == ([], [])


# From a model


def test_a_model_back_to_its_shards_and_the_models_before_it(lineage, whole):
    document = lineage("--model", "labeler-2")
    assert (document["model"], document["recipe"], document["step"]) == ("labeler-2", "small", "train")
    assert document["sha256"] == hash_local(whole / "models/labeler-2")
    (training,) = document["training"]
    index = json.loads((whole / "train-selected/index.json").read_text())
    assert (training["column"], training["current"], training["shards"]) == ("train-selected", True, index["shards"])
    assert training["samples"] == 6
    assert set(document["models"]) == {"labeler-1", "discriminator"}
    for name, weights in (("init", document["weights"]), ("labeler", document["models"]["discriminator"]["weights"])):
        assert weights == {
            name: {"name": "labeler-1", "sha256": hash_local(whole / "models/labeler-1"), "in_run": True}
        }
    left = json.loads((whole / "models/labeler-2/lineage.json").read_text())
    assert {name: document[name] for name in ("fingerprint", "step", "version", "settings", "validation")} == {
        name: left[name] for name in ("fingerprint", "step", "version", "settings", "validation")
    }


def test_a_model_back_to_every_step_behind_it(lineage, whole):
    columns = lineage("--model", "labeler-2")["columns"]
    assert {name: [step["step"] for step in column["steps"]] for name, column in columns.items()} == {
        "train-selected": ["pack", "pack-shard"],
        "train-labelled": ["pack", "pack-shard"],
        "labelled-sim": ["simulate"],
        "plan": ["plan"],
        "frames": ["extract"],
        "tags": ["tag"],
        "labels-1": ["label"],
        "scores-1": ["score"],
        "selection-1": ["select"],
    }
    (extract,) = columns["frames"]["steps"]
    receipts = {path.stem: json.loads(path.read_text()) for path in (whole / "receipts/frames").iterdir()}
    basis = receipts["000000"]["basis"]
    assert (extract["version"], extract["settings"]) == (basis["version"], basis["settings"])
    assert extract["fingerprints"] == {shard: receipt["fingerprint"] for shard, receipt in receipts.items()}
    assert (columns["frames"]["shards"], columns["frames"]["samples"], columns["frames"]["inputs"]) == (2, 6, ["plan"])
    assert columns["labels-1"]["steps"][0]["weights"]["model"]["name"] == "labeler-1"


def test_a_model_knows_nothing_of_what_came_after_it(lineage):
    document = lineage("--model", "labeler-1")
    assert (document["models"], set(document["columns"])) == ({}, {"train-labelled", "labelled-sim"})


# What has changed since


def test_data_that_changed_after_the_training(lineage, run, chosen):
    shard = run.storage.read_bytes("train-selected/train-000000.tar")
    forge_output(run, "train-selected", "train-000000", shard + bytes(10240))
    (training,) = lineage("--model", "labeler-2", uri=run.uri)["training"]
    assert training["current"] is False
    assert [model["current"] for model in lineage(chosen, uri=run.uri)["models"]] == [False]


def test_weights_that_are_not_of_the_run(lineage, run, chosen):
    forge_receipt(run, "labels-1", "000000", assets={"model": "0" * 64})
    (label,) = lineage(chosen, uri=run.uri)["labels"]
    assert label["weights"] == {"model": {"name": None, "sha256": "0" * 64, "in_run": False}}  # replaced since
    forge_receipt(run, "labels-1", "000000", assets={"model": "hub:someone/dap-large"})
    (label,) = lineage(chosen, uri=run.uri)["labels"]
    assert label["weights"]["model"]["name"] == "someone/dap-large"
    recipe = run.storage.read_bytes("run.yaml").decode()
    run.storage.write_bytes("run.yaml", recipe.replace("model: run:models/labeler-1", "model: embedded", 1).encode())
    forge_receipt(run, "labels-1", "000000", assets={"model": "1" * 64})
    (label,) = lineage(chosen, uri=run.uri)["labels"]
    assert Path(label["weights"]["model"]["name"]).name == "embedded_weights"


# How it is asked, and what it costs


@pytest.mark.slow
def test_on_an_object_store(lineage, whole, chosen, s3_uri):
    copy, original = Storage(s3_uri), Storage(str(whole))
    for path in original.list(""):
        copy.write_bytes(path, original.read_bytes(path))
    for question in ([chosen], [VIDEO], ["synthetic_4_000000_01"], ["--model", "labeler-2"]):
        assert lineage(*question, uri=s3_uri) == lineage(*question)


def test_only_what_is_needed_is_opened(lineage, chosen, monkeypatch):
    opened = []
    open_object, read_bytes = Storage.open, Storage.read_bytes
    monkeypatch.setattr(Storage, "open", lambda self, path: opened.append(path) or open_object(self, path))
    monkeypatch.setattr(Storage, "read_bytes", lambda self, path: opened.append(path) or read_bytes(self, path))
    lineage(chosen)
    tars = {path for path in opened if path.endswith(".tar")}
    assert tars == {"frames/000000.tar", "labels-1/000000.tar"}
    opened.clear()
    lineage("synthetic_4_000001_02")
    lineage("--model", "labeler-2")
    assert {path for path in opened if path.endswith(".tar")} == {"labelled-sim/000001.tar"}


def test_for_people(capsys, whole, lineage, chosen):
    document = lineage(chosen)
    frame, (packed,) = document["frame"], document["training"]
    labeler = hash_local(whole / "models/labeler-1")[:12]
    for question, line in [
        ([chosen], f"frame {frame['frame_index']}, second {frame['timestamp_s']:.3f}, 64×32 (frames/000000.tar)"),
        ([chosen], f"model: labeler-1, sha256 {labeler}…"),
        ([chosen], f"packed: {packed['object']}, split train, from labels-1"),
        ([chosen], "taught model labeler-2"),
        (["noise-805a7b4210"], "dropped: noise-805a7b4210, "),
        ([VIDEO], f"frame {VIDEO}-00000000, second 0.000: "),
        (["synthetic_4_000000_01"], "panorama 64×32, split test (labelled-sim/000000.tar)"),
        (["--model", "labeler-2"], "trained on train-selected: 6 samples"),
        (["--model", "labeler-2"], f"init: labeler-1, sha256 {labeler}…"),
    ]:
        assert main(["lineage", "--run-dir", str(whole), *question]) == 0
        assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (["nosuch"], "no sample 'nosuch' in "),
        (["b-db0f8b31c1-00000099"], "no sample 'b-db0f8b31c1-00000099' in "),
        (["synthetic_4_000009_00"], "no sample 'synthetic_4_000009_00' in "),
        (["--model", "nosuch"], "no model 'nosuch' in "),
    ],
)
def test_what_the_run_does_not_know_is_one_line(capsys, whole, question, message):
    assert main(["lineage", "--run-dir", str(whole), *question]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"dap lineage: {message}")
    assert captured.out == ""


def test_no_run_directory(capsys, tmp_path):
    assert main(["lineage", "--run-dir", str(tmp_path), "x"]) == 2
    assert "no run directory" in capsys.readouterr().err


@pytest.mark.parametrize("question", [[], ["x", "--model", "y"]])
def test_a_sample_or_a_model(whole, question):
    with pytest.raises(SystemExit) as caught:
        main(["lineage", "--run-dir", str(whole), *question])
    assert caught.value.code == 2
