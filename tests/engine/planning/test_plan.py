import dataclasses
import hashlib
import os
import time

import pytest
from hypothesis import given
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.listing import error_path, receipt_path, retry_path
from dap_engine.engine.rundir.receipts import Fingerprints
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.hashing import canonical_json
from tests.engine.receipts import bases
from tests.engine.receipts import receipt as receipt_of
from tests.engine.steps import RECIPE, STEPS


def graph_of(*overrides):
    return build_graph(load_recipe(RECIPE, STEPS, overrides).nodes)


def run(place, *overrides):
    graph = graph_of(*overrides)
    return Runner(graph, RunDir(place), InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)


def reasons(place, *overrides):
    """Why what would run: counts of reasons by node; nodes that are up to date are left out."""
    graph = graph_of(*overrides)
    plans = Planner(graph, RunDir(place)).plan(graph.nodes)
    assert all(sum(plan.reasons.values()) == len(plan.pending) for plan in plans)
    return {plan.node.name: dict(plan.reasons) for plan in plans if not plan.done}


@pytest.fixture
def done(place):
    """A finished run."""
    run(place)
    return RunDir(place)


@pytest.fixture
def done_here(tmp_path):
    """A finished run on a disk."""
    run(str(tmp_path))
    return RunDir(str(tmp_path))


def outdate(run_dir, column, shard):
    """Writes the very same output again, later: as an attempt does that was given up for lost."""
    path = run_dir.receipts(column)[shard].output.path
    data = run_dir.storage.read_bytes(path)
    if not run_dir.storage.is_local:
        time.sleep(1.1)  # the store's clock ticks once a second
    run_dir.storage.write_bytes(path, data)


@given(bases)
def test_what_shards_share_is_hashed_once_and_the_fingerprint_is_that_of_the_whole(basis):
    whole = hashlib.sha256(canonical_json(dataclasses.asdict(basis))).hexdigest()
    assert Fingerprints(dataclasses.replace(basis, inputs={})).of(basis.inputs) == whole
    assert basis.fingerprint == whole


def test_nothing_is_done_at_first(place):
    assert reasons(place) == {
        "count": {"new": 3},
        "times": {"follows count": 3},
        "add": {"follows count": 3},
        "total": {"after add": 0},
    }


def test_a_finished_run_has_nothing_to_do(done):
    assert reasons(done.uri) == {}


def test_every_reason_is_named_and_counted(done_here):
    storage = done_here.storage
    storage.delete(receipt_path("products", "0000"))
    storage.write_bytes(receipt_path("products", "0001"), b"{}")
    storage.delete("products/0002.parquet")
    assert reasons(done_here.uri) == {
        "times": {"new": 1, "its receipt is damaged": 1, "its output is missing": 1},
        "add": {"follows times": 3},
        "total": {"after add": 0},
    }
    storage.write_bytes(error_path("products", "0000"), b"what was that")
    storage.write_bytes("products/0002.parquet", b"short")
    assert reasons(done_here.uri)["times"] == {
        "its last attempt failed": 1,
        "its receipt is damaged": 1,
        "its output has another size than was written": 1,
    }
    assert run(done_here.uri).worked == 3
    assert reasons(done_here.uri) == {}


def test_changes_are_counted_apart_most_shards_first(done_here):
    done_here.storage.delete(receipt_path("products", "0001"))
    changed = reasons(done_here.uri, "times.factor=3", "times.batch_size=2")
    assert list(changed["times"].items()) == [("setting batch_size changed, setting factor changed", 2), ("new", 1)]


def test_an_input_that_is_not_there_is_no_surprise(done_here):
    done_here.storage.delete(receipt_path("numbers", "0001"))
    graph = graph_of()
    (plan,) = Planner(graph, done_here).plan(graph.select(only=["times"]))
    assert (plan.pending, dict(plan.reasons)) == (("0001",), {"its input is missing": 1})


def test_an_output_newer_than_its_receipt_is_looked_at_and_kept_if_it_is_the_same(done):
    before = dict(done.receipts("products"))
    outdate(done, "products", "0001")
    assert reasons(done.uri)["times"] == {"its output is newer than its receipt": 1}
    assert not done.validates(before["0001"])
    assert done.size_matches(before["0001"])
    assert run(done.uri).worked == 0
    assert reasons(done.uri) == {}
    assert dict(done.receipts("products")) == before


def test_an_output_newer_than_its_receipt_is_made_again_if_it_is_another(done_here):
    before = done_here.receipts("products")["0001"]
    path = done_here.storage.locate(before.output.path)
    data = bytearray(done_here.storage.read_bytes(before.output.path))
    data[10] ^= 1
    done_here.storage.write_bytes(before.output.path, bytes(data))
    os.utime(path, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))
    assert run(done_here.uri).worked == 1
    assert done_here.storage.hash_object(before.output.path) == before.output.sha256


def test_what_a_barrier_wrote_is_not_judged_by_its_time(done):
    outdate(done, "total", "all")
    assert reasons(done.uri) == {}


def test_a_shard_that_was_put_back_is_pending_and_others_are_not(done):
    done.storage.write_bytes(retry_path("products", "0001"), b'{"code": "multiple"}')
    assert reasons(done.uri)["times"] == {"put back": 1}
    assert reasons(done.uri, "times.factor=3")["times"] == {"setting factor changed": 3}


def test_the_look_at_one_shard_agrees_with_the_look_at_a_column(done):
    outdate(done, "numbers", "0000")
    done.storage.write_bytes("numbers/0001.tar", b"short")
    stated = done.receipts("numbers")
    agreed = done.validated("numbers", by_mtime=True)
    assert [shard for shard in stated if done.validates(stated[shard])] == list(agreed.receipts) == ["0002"]
    by_size = done.validated("numbers", by_mtime=False)
    assert [shard for shard in stated if done.size_matches(stated[shard])] == list(by_size.receipts) == ["0000", "0002"]


def test_folders_count_with_all_their_files(tmp_path):
    run_dir = RunDir(str(tmp_path))
    folder = tmp_path / "new"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"123")
    (folder / "sub" / "b.txt").write_bytes(b"45")
    output = run_dir.storage.publish(folder, "x/00")
    receipt = dataclasses.replace(receipt_of("x", "00"), output=output)
    run_dir.storage.write_bytes(receipt_path("x", "00"), receipt.to_bytes())
    assert list(run_dir.validated("x", by_mtime=True).receipts) == ["00"]
    assert run_dir.validates(receipt)
    os.utime(tmp_path / "x" / "00" / "sub" / "b.txt", ns=(2**62, 2**62))
    assert list(run_dir.validated("x", by_mtime=True).receipts) == []
    assert not run_dir.validates(receipt)


def test_a_folder_without_files_is_there(place, tmp_path):
    """As a stage leaves it that writes folders, and has dropped all samples of a shard."""
    run_dir = RunDir(place)
    (tmp_path / "empty").mkdir()
    receipt = dataclasses.replace(receipt_of("x", "00"), output=run_dir.storage.publish(tmp_path / "empty", "x/00"))
    run_dir.storage.write_bytes(receipt_path("x", "00"), receipt.to_bytes())
    assert list(run_dir.validated("x", by_mtime=True).receipts) == ["00"]
    assert run_dir.validates(receipt)


def test_shards_that_the_recipe_has_no_more_are_strays_with_or_without_an_output(done_here):
    done_here.storage.delete("products/0002.parquet")
    graph = graph_of("count.total_shards=1")
    plans = {plan.node.name: plan for plan in Planner(graph, done_here).plan(graph.nodes)}
    assert plans["times"].orphans == ("0001", "0002")


def test_a_plan_opens_no_shard(done_here):
    """So it cannot notice what has neither another size nor another time."""
    for column in ("numbers", "products", "sums"):
        for receipt in done_here.receipts(column).values():
            path = done_here.storage.locate(receipt.output.path)
            before = os.stat(path)
            with open(path, "r+b") as file:
                file.write(bytes(before.st_size))
            os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert reasons(done_here.uri) == {}
