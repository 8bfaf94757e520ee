"""`verify_run`: each kind of damage, done to a finished run, is found and named in one line; a healthy run has none."""

import hashlib
import os
import re
import shutil
import tarfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner, save_recipe
from dap_engine.engine.planning.graph import Graph, build_graph
from dap_engine.engine.planning.recipe import Node, load_recipe
from dap_engine.engine.records.column import Column, ParquetColumn, TarColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.listing import error_path, index_folder, receipt_path
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import Stage
from dap_engine.engine.storage.storage import Storage
from dap_engine.engine.verification.inspection import inspect_object
from dap_engine.engine.verification.verify import verify_run
from tests.engine.steps import RECIPE, STEPS, Add, Count
from tests.engine.verification.damage import cut, encode, flip_byte, forge_output, forge_receipt, receipt_of
from tests.runs import Bring

NUMBERS = TarColumn("numbers", ("txt", "json"))
SUMS = Add().writes
RECIPE_OF_TESTS = load_recipe(RECIPE, STEPS, ["times.drop_every=3"])
GRAPH = build_graph(RECIPE_OF_TESTS.nodes)


def run_until(place, until: str | None = None, recipe=RECIPE_OF_TESTS) -> RunDir:
    run = RunDir(str(place))
    save_recipe(recipe, run)
    finish(run, build_graph(recipe.nodes), until)
    return run


def finish(run: RunDir, graph: Graph, until: str | None = None) -> None:
    runner = Runner(graph, run, InProcessExecutor, Progress(Console(quiet=True)))
    assert not runner.run(graph.select((), until)).unfinished


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory) -> dict[str, Path]:
    """Runs of the arithmetic recipe, up to each of its steps."""
    base = tmp_path_factory.mktemp("runs")
    return {until: Path(run_until(base / until, until).uri) for until in ("count", "times", "add", "total")}


@pytest.fixture
def copy_of(finished_runs, tmp_path):
    """A copy of the run up to a step, to be damaged."""

    def copy(until: str = "total") -> RunDir:
        return RunDir(str(shutil.copytree(finished_runs[until], tmp_path / until)))

    return copy


@pytest.fixture
def anywhere(finished_runs, place) -> RunDir:
    """A copy of the whole run, on a disk and on an object store."""
    run, original = RunDir(place), Storage(str(finished_runs["total"]))
    for path in original.list(""):
        run.storage.write_bytes(path, original.read_bytes(path))
    return run


def problems(run: RunDir) -> list[str]:
    return verify_run(run, GRAPH).problems


def numbers(first: int, count: int, step: int = 1) -> list[Row]:
    found = range(first, first + count * step, step)
    return [Row(f"n{n:06d}", {"txt": b"x", "json": {"number": n}}) for n in found]


# What is healthy


def test_a_healthy_run_has_no_problem(place):
    run = run_until(place)
    assert problems(run) == []
    assert verify_run(run, GRAPH).samples == {"numbers": 12, "products": 8, "sums": 8, "total": 1}
    assert verify_run(run).ok


@pytest.mark.parametrize("until", ["count", "times", "add"])
def test_an_unfinished_run_is_healthy_as_far_as_it_goes(copy_of, until):
    assert problems(copy_of(until)) == []


def test_what_has_no_receipt_by_design_is_no_orphan(copy_of):
    run = copy_of()
    for path in ("logs/worker-1.log", "checkpoints/m.ckpt", ".tmp/locks/01", index_folder("numbers") + "/x"):
        run.storage.write_bytes(path, b"x")
    run.storage.write_bytes("receipts/products/0001.retry.json", b'{"code": null}')
    assert problems(run) == []


def test_a_failure_that_was_made_good_is_forgotten(copy_of):
    run = copy_of()
    run.storage.write_bytes(error_path("sums", "0001"), b'{"traceback": "ValueError: old"}')
    os.utime(run.storage.locate(error_path("sums", "0001")), ns=(0, 0))
    assert problems(run) == []


# Objects that are not what was written


def test_a_flipped_byte(anywhere):
    run = anywhere
    flip_byte(run, "numbers/0001.tar", 1600)
    (line,) = problems(run)
    assert re.fullmatch(r"numbers/0001\.tar: is not what was written \(sha256 \w{12}…, not \w{12}…\)", line)


@pytest.mark.parametrize(
    ("path", "flaw"),
    [
        ("numbers/0000.tar", "broken tar"),
        ("sums/0002.parquet", "broken parquet"),
        ("drops/products/0001.parquet", "broken"),
    ],
)
def test_a_flipped_byte_that_breaks_the_format_says_so_too(copy_of, path, flaw):
    run = copy_of()
    flip_byte(run, path, 2 if path.endswith(".tar") else -2)
    (line,) = problems(run)
    assert line.startswith(f"{path}: is not what was written (sha256 ")
    assert flaw in line


def test_a_missing_object(anywhere):
    run = anywhere
    run.storage.delete("products/0001.parquet")
    run.storage.delete("drops/products/0002.parquet")
    assert problems(run) == ["drops/products/0002.parquet: is missing", "products/0001.parquet: is missing"]


def test_a_truncated_tar(anywhere):
    run = anywhere
    cut(run, "numbers/0001.tar", 2000)
    (line,) = problems(run)
    assert line == (
        "numbers/0001.tar: is not what was written (2000 bytes, not 10240); broken tar: unexpected end of data"
    )


def test_a_truncated_tar_with_a_receipt_that_fits(copy_of):
    run = copy_of("count")
    forge_output(run, "numbers", "0001", run.storage.read_bytes("numbers/0001.tar")[:2000])
    assert problems(run) == ["numbers/0001.tar: broken tar: unexpected end of data"]


def test_an_object_that_cannot_be_read(copy_of):
    run = copy_of("count")
    run.storage.delete("numbers/0001.tar")
    Path(run.storage.locate("numbers/0001.tar")).mkdir()
    (line,) = problems(run)
    assert line.startswith("numbers/0001.tar: cannot be read: ")


# What a shard holds, though its hash is right


def test_a_duplicate_key(copy_of, tmp_path):
    run = copy_of("count")
    (tmp_path / "twice").mkdir()
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for key in ("n000004", "n000005", "n000004", "n000006"):
            for field in ("json", "txt"):
                (tmp_path / "member").write_text("1")
                tar.add(tmp_path / "member", f"{key}.{field}")
    forge_output(run, "numbers", "0001", (tmp_path / "twice.tar").read_bytes())
    assert problems(run) == [
        "numbers/0001.tar: key 'n000004' comes twice",
    ]


def test_a_duplicate_key_of_a_table(copy_of):
    run = copy_of("add")
    table = pa.table({"key": ["n000004", "n000005", "n000005"], "sum": [1, 2, 3]})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    forge_output(run, "sums", "0001", sink.getvalue().to_pybytes())
    assert problems(run) == ["sums/0001.parquet: key 'n000005' comes twice"]


@pytest.mark.parametrize(
    ("members", "flaw"),
    [
        (["n000004.json", "n000004.txt", "n000005.txt"], "'n000005' has the fields ['txt'], 'n000004' ['json', 'txt']"),
        (["../evil.json", "../evil.txt"], "bad sample key ''"),
        (["n000004.json/"], "'n000004.json' is no plain file"),
    ],
)
def test_odd_members(copy_of, tmp_path, members, flaw):
    run = copy_of("count")
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = 0
            tar.addfile(info)
    forge_output(run, "numbers", "0001", (tmp_path / "odd.tar").read_bytes())
    (line,) = problems(run)
    assert line.startswith("numbers/0001.tar: ")
    assert flaw in line


def test_a_wrong_count(copy_of):
    run = copy_of()
    forge_receipt(run, "sums", "0001", samples_out=9)
    assert problems(run) == ["sums/0001.parquet: holds 3 samples, its receipt says 9"]


def test_keys_out_of_order(copy_of, tmp_path):
    run = copy_of("count")
    data = encode(TarColumn("numbers", ("txt", "json"), shuffled=True), numbers(7, 4, step=-1), tmp_path)
    forge_output(run, "numbers", "0001", data)
    assert problems(run) == ["numbers/0001.tar: its keys do not rise"]


def test_one_key_in_two_shards(copy_of, tmp_path):
    run = copy_of("count")
    forge_output(run, "numbers", "0002", encode(NUMBERS, numbers(6, 4), tmp_path))
    assert problems(run) == ["numbers/0002: holds 'n000006' (and 1 more), which numbers/0001 holds too"]


# Columns that do not go together


def sums(*keys: str) -> list[Row]:
    return [Row(key, {"sum": 1}) for key in keys]


def test_rows_that_the_input_does_not_have(copy_of, tmp_path):
    run = copy_of("add")
    forge_output(
        run, "sums", "0001", encode(SUMS, sums("n000004", "n000005", "n000007", "n000007-x"), tmp_path), samples_out=4
    )
    assert problems(run) == [
        "sums/0001.parquet: holds 'n000007-x', which numbers/0001.tar does not",
        "sums/0001.parquet: holds 'n000007-x', which products/0001.parquet does not",
    ]


def test_a_row_that_was_lost_on_the_way(copy_of, tmp_path):
    run = copy_of("add")
    forge_output(run, "sums", "0001", encode(SUMS, sums("n000004", "n000007"), tmp_path), samples_out=2)
    assert problems(run) == [
        "sums/0001: 'n000005' of numbers/0001.tar and products/0001.parquet became neither a row nor a drop"
    ]


def test_a_sample_that_is_both_kept_and_dropped(copy_of, tmp_path):
    run = copy_of("times")
    rows = [Row(key, {"product": 1}) for key in ("n000004", "n000005", "n000006", "n000007")]
    products = next(node.step.writes for node in GRAPH.nodes if node.name == "times")
    forge_output(run, "products", "0001", encode(products, rows, tmp_path), samples_out=4)
    assert problems(run) == ["drops/products/0001.parquet: drops 'n000006', which products/0001.parquet holds"]


def test_a_wrong_count_of_what_was_taken_in(copy_of):
    run = copy_of()
    forge_receipt(run, "products", "0001", samples_in=5)
    forge_receipt(run, "sums", "0002", samples_in=4)
    assert problems(run) == [
        "products/0001: took in 5 samples, but numbers/0001.tar has 4",
        "sums/0002: took in 4 samples, but numbers/0002.tar and products/0002.parquet have 3 in common",
    ]


def test_a_column_made_from_another_than_there_is(copy_of):
    run = copy_of()
    run_until(run.uri, "times", load_recipe(RECIPE, STEPS, ["times.factor=5", "times.drop_every=3"]))
    graph = build_graph(load_recipe(RECIPE, STEPS, ["times.factor=5", "times.drop_every=3"]).nodes)
    stale = [f"sums/000{n}: was made from another products than there is" for n in range(3)]
    assert verify_run(run, graph).problems == stale
    assert verify_run(run).problems == stale


def test_a_barrier_made_from_another_column_than_there_is(copy_of):
    run = copy_of()
    forge_receipt(run, "total", "all", inputs={"sums": "0" * 64})
    assert problems(run) == ["total/all: was made from another sums than there is"]


def test_a_shard_that_its_input_does_not_have(copy_of):
    run = copy_of("times")
    for path in ("numbers/0001.tar", receipt_path("numbers", "0001")):
        run.storage.delete(path)
    assert problems(run) == ["products/0001: was made from numbers/0001, which has no receipt"]


@dataclass
class Frames(Stage):
    """Makes three rows of every video, and drops those of `dropped` whole."""

    name = "frames"
    dropped: str = ""
    broken: str = ""  # a video whose last row gets a name of its own

    @property
    def reads(self) -> tuple[str, ...]:
        return ("plan",)

    @property
    def writes(self) -> Column:
        return TarColumn("frames", ("json",))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            if sample.key == self.dropped:
                yield Drop(sample.key, "no_panorama")
            else:
                yield from (Row(f"{sample.key}-{n}", {"json": {}}) for n in range(2))
                yield Row(f"{sample.key}x-2" if sample.key == self.broken else f"{sample.key}-2", {"json": {}})


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"dropped": "b-1"}, []),
        ({"broken": "b-1"}, ["frames/0000.tar: holds 'b-1x-2', which plan/0000.parquet does not"]),
    ],
)
def test_a_stage_that_makes_many_rows_of_a_sample(tmp_path, settings, found):
    plan = ParquetColumn("plan", pa.schema([("uri", pa.string())]), key_name="video_id")
    videos = {"0000": [Row(key, {"uri": ""}) for key in ("a", "b-1", "b-2")]}
    graph = build_graph([Node("plan", Bring(plan, videos)), Node("frames", Frames(**settings))])
    run = RunDir(str(tmp_path))
    finish(run, graph)
    assert verify_run(run, graph).problems == found


# Objects and receipts that do not belong


def test_orphans(anywhere):
    run = anywhere
    orphans = ["drops/products/0009.parquet", "models/m/config.json", "notes.txt", "products/0009.parquet"]
    for path in orphans:
        run.storage.write_bytes(path, b"x")
    run.storage.write_bytes("receipts/products/notes.txt", b"x")
    expected = [*(f"{path}: no receipt names it" for path in orphans), "receipts/products/notes.txt: is no receipt"]
    assert problems(run) == expected


def test_a_lost_receipt(copy_of):
    run = copy_of()
    run.storage.delete(receipt_path("total", "all"))
    assert problems(run) == ["total/all.parquet: no receipt names it"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"settings": {"factor": 7}},
            "setting batch_size changed, setting drop_every changed, setting factor changed, ",
        ),
        ({"version": 9}, "version 9 -> 1"),
        ({"step": "divide"}, "step divide -> times"),
        ({"assets": {"model": "0" * 64}}, "weights model changed"),
        ({"inputs": {}}, "input numbers changed"),
    ],
)
def test_a_receipt_from_a_different_recipe(copy_of, changes, what):
    run = copy_of()
    forge_receipt(run, "products", "0001", **changes)
    (line,) = problems(run)
    assert line.startswith(f"products/0001: was made by another recipe than run.yaml ({what}")
    assert verify_run(run).problems == []


def test_the_outside_world_is_left_alone(tmp_path):
    """Videos may be gone, and hubs out of reach."""

    @dataclass
    class Outside(Count):
        def external(self) -> dict[str, str]:
            raise OSError("gone")

    run = run_until(tmp_path, "count")
    graph = build_graph([Node("count", Outside())])
    assert verify_run(run, graph).problems == []


def test_a_column_that_no_step_makes(copy_of):
    run = copy_of()
    graph = build_graph(node for node in GRAPH.nodes if node.name != "total")
    assert verify_run(run, graph).problems == ["total/all: no step of run.yaml makes it"]


def test_a_shard_that_the_recipe_does_not_have(copy_of):
    run = copy_of("count")
    graph = build_graph([Node("count", Count(total_shards=2))])
    for shard in ("0000", "0001", "0002"):
        forge_receipt(
            run, "numbers", shard, settings={**receipt_of(run, "numbers", shard).basis.settings, "total_shards": 2}
        )
    assert verify_run(run, graph).problems == ["numbers/0002: step 'count' of run.yaml has no such shard"]


# Receipts


def test_a_damaged_receipt_is_one_line_and_what_depends_on_it_none(anywhere):
    run = anywhere
    run.storage.write_bytes(receipt_path("products", "0001"), b"{}")
    (line,) = problems(run)
    assert line.startswith("receipts/products/0001.json: damaged receipt: ")


def test_a_receipt_that_was_tampered_with(copy_of):
    run = copy_of()
    path = receipt_path("products", "0001")
    run.storage.write_bytes(path, run.storage.read_bytes(path).replace(b'"factor": 2', b'"factor": 3'))
    (line,) = problems(run)
    assert line.startswith(f"{path}: damaged receipt of products/0001: its fingerprint does not fit")


def test_a_receipt_under_another_name(copy_of):
    run = copy_of()
    run.storage.write_bytes(receipt_path("sums", "0009"), run.storage.read_bytes(receipt_path("sums", "0001")))
    assert problems(run) == ["receipts/sums/0009.json: damaged receipt: it is that of sums/0001"]
    forged = run.storage.read_bytes(receipt_path("sums", "0001")).replace(b'"shard": "0001"', b'"shard": "0009"')
    run.storage.write_bytes(receipt_path("sums", "0009"), forged)
    assert problems(run) == ["receipts/sums/0009.json: names sums/0001.parquet, the place of another shard"]


def test_drops_that_disagree_with_the_receipt(copy_of):
    run = copy_of()
    forge_receipt(run, "products", "0000", drops={"multiple": 1, "other": 1})
    forge_receipt(run, "products", "0001", drops_output=None)
    forge_receipt(run, "sums", "0001", drops={"odd": 2})
    assert problems(run) == [
        "drops/products/0000.parquet: holds drops {'multiple': 2}, its receipt says {'multiple': 1, 'other': 1}",
        "drops/products/0001.parquet: no receipt names it",
        "products/0001: counts drops {'multiple': 1}, but names no table of them",
        "sums/0001: counts drops {'odd': 2}, but names no table of them",
    ]


def test_leftovers_of_a_failure(copy_of):
    run = copy_of()
    run.storage.write_bytes(error_path("sums", "0001"), b'{"traceback": "Traceback\\nValueError: no\\n"}')
    run.storage.write_bytes(error_path("sums", "0002"), b"{")
    first, second = problems(run)
    assert first == "receipts/sums/0001.error.json: the last attempt failed: ValueError: no"
    assert second.startswith("receipts/sums/0002.error.json: the last attempt failed: ")


# How it works


def test_many_problems_come_sorted_and_the_same_however_many_threads(copy_of):
    run = copy_of()
    for path in ("sums/0002.parquet", "numbers/0000.tar", "products/0001.parquet"):
        run.storage.delete(path)
    run.storage.write_bytes("a.txt", b"")
    expected = ["a.txt: no receipt names it", "numbers/0000.tar: is missing"]
    expected += ["products/0001.parquet: is missing", "sums/0002.parquet: is missing"]
    assert verify_run(run, GRAPH, threads=1).problems == verify_run(run, GRAPH, threads=8).problems == expected


def test_it_says_how_far_it_is(copy_of):
    seen = []
    run = copy_of()
    verify_run(run, GRAPH, advance=lambda *counts: seen.append(counts))
    assert [(done, total) for done, total, _ in seen] == [(n, 4) for n in range(1, 5)]
    stored = sum(
        size
        for path, size in run.storage.list("").items()
        if not path.startswith(("receipts/", ".members/", "run.yaml"))
    )
    assert seen[-1][2] == stored


def test_a_shard_is_never_in_memory(tmp_path):
    megabyte, count = os.urandom(1 << 20), 48
    rows = [Row(f"k{n:03d}", {"bin": megabyte}) for n in range(count)]
    run, graph = RunDir(str(tmp_path)), build_graph([Node("bring", Bring(TarColumn("big", ("bin",)), {"0": rows}))])
    finish(run, graph)
    tracemalloc.start()
    assert verify_run(run, graph).ok
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < count / 4 * len(megabyte)


@pytest.fixture(scope="module")
def originals(finished_runs) -> dict[str, bytes]:
    run = finished_runs["total"]
    return {
        "shard.tar": (run / "numbers/0001.tar").read_bytes(),
        "shard.parquet": (run / "products/0001.parquet").read_bytes(),
    }


@given(st.data())
def test_no_damage_is_too_odd(originals, tmp_path_factory, data):
    """Whatever the bytes: an object is read, or has a flaw, and its hash is that of its bytes."""
    name = data.draw(st.sampled_from(sorted(originals)))
    damaged = bytearray(originals[name])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    folder = tmp_path_factory.getbasetemp() / "odd"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(damaged)
    content = inspect_object(Storage(str(folder)), name)
    assert content is not None
    assert (content.sha256, content.bytes) == (hashlib.sha256(damaged).hexdigest(), len(damaged))
