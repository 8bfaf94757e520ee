"""`dap verify`: what a run of all the stages looks like when it is healthy, and what is said of each damage."""

import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dap_engine.engine.rundir.listing import receipt_path
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.__main__ import main
from dap_engine.jobs.commands import verify as verify_command
from tests.engine.verification.damage import cut, flip_byte, forge_output, forge_receipt
from tests.jobs.whole_run import whole_run

SAMPLES = {"frames": 6, "labelled-sim": 8, "labels-1": 6, "models": 14, "plan": 4, "scores-1": 6, "selection-1": 2}
SAMPLES |= {"tags": 6, "train-labelled": 4, "train-selected": 6}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(whole, tmp_path) -> RunDir:
    """A copy of the run, to be damaged."""
    return RunDir(str(shutil.copytree(whole, tmp_path / "run")))


def verified(capsys, uri: str) -> dict:
    """The JSON document of `dap verify`; its exit code must agree."""
    code = main(["verify", "--run-dir", uri, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"ok", "problems", "samples"}
    assert (code, document["ok"]) == ((1, False) if document["problems"] else (0, True))
    return document


def problems(capsys, run: RunDir) -> list[str]:
    return verified(capsys, run.uri)["problems"]


def without(run: RunDir, *outputs: str) -> None:
    """Takes columns, or single outputs, out of a run as if they had never been made."""
    for output in outputs:
        column, _, shard = output.partition("/")
        run.storage.delete_all(output)
        run.storage.delete_all(receipt_path(column, shard) if shard else f"receipts/{column}")


# Healthy


def test_a_healthy_run_though_its_videos_are_gone(capsys, run):
    run.storage.write_bytes("run.yaml", run.storage.read_bytes("run.yaml").replace(b"whole-run-videos", b"gone"))
    assert verified(capsys, run.uri) == {"ok": True, "problems": [], "samples": SAMPLES}


@pytest.mark.slow
def test_a_healthy_run_on_an_object_store(capsys, run, s3_uri):
    copy = RunDir(s3_uri)
    for path in run.storage.list(""):
        copy.storage.write_bytes(path, run.storage.read_bytes(path))
    assert verified(capsys, s3_uri) == {"ok": True, "problems": [], "samples": SAMPLES}
    flip_byte(copy, "labels-1/000000.tar", 700)
    copy.storage.delete("models/labeler-2/config.json")
    line, other = problems(capsys, copy)
    assert line.startswith("labels-1/000000.tar: is not what was written (sha256 ")
    assert other.startswith("models/labeler-2: is not what was written (")


def test_for_people(capsys, run, monkeypatch):
    monkeypatch.setattr(verify_command, "LINE_EVERY_S", -1)
    assert main(["verify", "--run-dir", run.uri]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("ok: frames 6, labelled-sim 8, labels-1 6, ")
    assert captured.err.splitlines()[0].startswith("verify: 1/10 shards, ")
    run.storage.delete("tags/000000.parquet")
    assert main(["verify", "--run-dir", run.uri]) == 1
    assert capsys.readouterr().out.splitlines() == ["tags/000000.parquet: is missing", "1 problems"]


# Damage to objects and receipts


def test_a_flipped_byte(capsys, run):
    flip_byte(run, "frames/000000.tar", 1000)
    (line,) = problems(capsys, run)
    assert line.startswith("frames/000000.tar: is not what was written (sha256 ")


def test_a_missing_object(capsys, run):
    run.storage.delete("labels-1/000000.tar")
    run.storage.delete("train-labelled/deal.parquet")
    expected = ["labels-1/000000.tar: is missing", "train-labelled/deal.parquet: is missing"]
    assert problems(capsys, run) == expected


def test_a_truncated_tar(capsys, run):
    cut(run, "train-selected/train-000000.tar", 9000)
    (line,) = problems(capsys, run)
    assert line.startswith("train-selected/train-000000.tar: is not what was written (9000 bytes, not ")
    assert line.endswith("; broken tar: unexpected end of data")


def test_a_duplicate_key(capsys, run):
    table = pq.read_table(run.storage.locate("scores-1/000000.parquet"))
    write_table(run, "scores-1", pa.concat_tables([table, table.slice(0, 1)]))
    (line,) = problems(capsys, run)
    assert line.startswith("scores-1/000000.parquet: is not what was written (")
    assert line.endswith(f"; key {table['key'][0].as_py()!r} comes twice")


def test_a_wrong_count(capsys, run):
    forge_receipt(run, "tags", "000000", samples_out=7)
    assert problems(capsys, run) == ["tags/000000.parquet: holds 6 samples, its receipt says 7"]


def test_a_damaged_receipt(capsys, run):
    run.storage.write_bytes(receipt_path("frames", "000001"), b'{"fingerprint": ')
    (line,) = problems(capsys, run)
    assert line.startswith("receipts/frames/000001.json: damaged receipt: ")


def test_orphans(capsys, run):
    paths = ["drops/tags/000000.parquet", "frames/000007.tar", "loose.bin", "models/old/config.json"]
    for path in paths:
        run.storage.write_bytes(path, b"x")
    assert problems(capsys, run) == [f"{path}: no receipt names it" for path in paths]


def test_a_file_too_many_in_a_model_folder(capsys, run):
    run.storage.write_bytes("models/labeler-1/optimizer.pt", b"x")
    (line,) = problems(capsys, run)
    assert line.startswith("models/labeler-1: is not what was written (")


# Columns that do not go together


def write_table(run: RunDir, column: str, table: pa.Table, shard: str = "000000", *, forge: bool = False) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    if forge:
        forge_output(run, column, shard, data, samples_out=len(table))
    else:
        run.storage.write_bytes(f"{column}/{shard}.parquet", data)


def test_misaligned_columns(capsys, run):
    without(run, "selection-1", "train-selected", "models/labeler-2")
    table = pq.read_table(run.storage.locate("tags/000000.parquet"))
    keys = [*table["key"].to_pylist()[:-1], "z-0"]
    write_table(run, "tags", table.set_column(0, "key", pa.array(keys)), forge=True)
    assert problems(capsys, run) == [
        "tags/000000.parquet: holds 'z-0', which frames/000000.tar does not",
        "tags/000000: 'b-db0f8b31c1-00000010' of frames/000000.tar became neither a row nor a drop",
    ]


def test_a_frame_of_no_video(capsys, run):
    without(run, *("tags", "labels-1", "scores-1", "selection-1", "train-selected", "models/labeler-2"))
    data = run.storage.read_bytes("frames/000000.tar")
    forge_output(run, "frames", "000000", with_keys(data, {"b-db0f8b31c1-00000010": "c-1"}))
    assert problems(capsys, run) == ["frames/000000.tar: holds 'c-1', which plan/000000.parquet does not"]


def with_keys(data: bytes, keys: dict[str, str]) -> bytes:
    """A tar in which some keys stand for others."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=sink, mode="w") as target:
        for member in source:
            content = source.extractfile(member)
            key, _, field = member.name.partition(".")
            member.name = f"{keys.get(key, key)}.{field}"
            target.addfile(member, content)
    return sink.getvalue()


def test_a_selection_of_what_was_never_scored(capsys, run):
    without(run, "train-selected", "models/labeler-2")
    table = pq.read_table(run.storage.locate("selection-1/000000.parquet"))
    write_table(run, "selection-1", table.set_column(0, "key", pa.array(["a-0", "b-0"])), forge=True)
    assert problems(capsys, run) == [
        "selection-1/000000.parquet: holds 'a-0' (and 1 more), which scores-1/000000 does not",
        "selection-1/000000.parquet: holds 'a-0' (and 1 more), which tags/000000 does not",
    ]


def test_packed_shards_that_are_not_as_they_were_dealt(capsys, run):
    without(run, "models/labeler-2")
    data = run.storage.read_bytes("train-selected/train-000000.tar")
    one, other = "synthetic_4_000001_01", "synthetic_4_000001_03"
    forge_output(run, "train-selected", "train-000000", with_keys(data, {one: other, other: one}))
    order, index = sorted(problems(capsys, run), reverse=True)
    assert order == f"train-selected/train-000000.tar: holds {one!r} where its assignment has {other!r}"
    assert index.startswith("train-selected/index.json: says of train-000000 sha256 ")


def test_an_assignment_that_names_other_positions(capsys, run):
    without(run, "models/labeler-2")
    table = pq.read_table(run.storage.locate("train-selected/deal.parquet"))
    rows = table.to_pylist()
    rows[0]["depth"], rows[1]["depth"] = rows[1]["depth"], rows[0]["depth"]
    write_table(run, "train-selected", pa.Table.from_pylist(rows, table.schema), "deal", forge=True)
    key, shard, place = rows[0]["key"], rows[0]["shard"], rows[0]["depth"]["path"]
    recipe = "was made by another recipe than run.yaml (setting assignment_sha256 changed)"
    assert problems(capsys, run) == [
        f"train-selected/deal.parquet: {key}.depth.png is not where it says in {place}",
        f"train-selected/{shard}.tar: the depth.png of {key!r} is not the one of {place}",
        f"train-selected/train-000000: {recipe}",
        f"train-selected/train-000001: {recipe}",
    ]


def test_a_damaged_assignment_is_one_line(capsys, run):
    flip_byte(run, "train-selected/deal.parquet", 600)
    (line,) = problems(capsys, run)
    assert line.startswith("train-selected/deal.parquet: is not what was written (sha256 ")


def test_an_index_that_disagrees_with_its_shards(capsys, run):
    without(run, "models/labeler-2")
    index = json.loads(run.storage.read_bytes("train-selected/index.json"))
    index["shards"][0]["samples"] = 9
    index["shards"][1]["name"] = "train-000007.tar"
    forge_output(run, "train-selected", "index", json.dumps(index).encode())
    assert problems(capsys, run) == [
        "train-selected/index.json: does not list train-000001",
        "train-selected/index.json: lists train-000007, which has no receipt",
        "train-selected/index.json: says of train-000000 samples 9, its receipt 3",
    ]
    forge_output(run, "train-selected", "index", b"[]")
    assert problems(capsys, run) == ["train-selected/index.json: is no index of packed shards"]


# Other recipes and other weights


def test_receipts_from_a_different_recipe(capsys, run):
    recipe = run.storage.read_bytes("run.yaml").decode().replace("step: tag", "step: tag\n    threshold: 0.9")
    run.storage.write_bytes("run.yaml", recipe.encode())
    forge_receipt(run, "scores-1", "000001", version=7)
    changed = "was made by another recipe than run.yaml"
    assert problems(capsys, run) == [
        f"scores-1/000001: {changed} (version 7 -> 1)",
        f"tags/000000: {changed} (setting threshold changed)",
        f"tags/000001: {changed} (setting threshold changed)",
    ]


def test_labels_by_other_weights_than_there_are(capsys, run):
    forge_receipt(run, "labels-1", "000001", assets={"model": "0" * 64})
    assert problems(capsys, run) == ["labels-1/000001: was made with another models/labeler-1 than there is"]


def test_a_column_of_a_step_that_the_recipe_has_no_more(capsys, run):
    recipe = run.storage.read_bytes("run.yaml").decode()
    start = recipe.index("  labeler-2:")
    run.storage.write_bytes("run.yaml", recipe[:start].encode())
    assert problems(capsys, run) == ["models/labeler-2: no step of run.yaml makes it"]


def test_a_damaged_recipe_is_a_problem_and_the_rest_is_checked(capsys, run):
    run.storage.write_bytes("run.yaml", b"steps: [")
    run.storage.delete("tags/000000.parquet")
    line, other = problems(capsys, run)
    assert f"{run.uri}/run.yaml: not a recipe: " in line
    assert other == "tags/000000.parquet: is missing"


def test_what_failed_and_was_left(capsys, run):
    run.storage.write_bytes("receipts/train-final/pack-final.error.json", b'{"traceback": "nothing to pack"}')
    document = verified(capsys, run.uri)
    assert document["problems"] == [
        "receipts/train-final/pack-final.error.json: the last attempt failed: nothing to pack"
    ]
    assert document["samples"]["train-final"] == 0
