import os
from dataclasses import replace

import pytest
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.planning.status import ColumnStatus, column_status
from dap_engine.engine.rundir import index as index_module
from dap_engine.engine.rundir.index import write_index
from dap_engine.engine.rundir.listing import error_path, receipt_path, retry_path
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.steps import RECIPE, STEPS


def status(place, *overrides):
    graph = build_graph(load_recipe(RECIPE, STEPS, overrides).nodes)
    return column_status(RunDir(place), Planner(graph, RunDir(place)).plan(graph.nodes))


@pytest.fixture
def done(place):
    graph = build_graph(load_recipe(RECIPE, STEPS, ["times.drop_every=3"]).nodes)
    Runner(graph, RunDir(place), InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)
    return RunDir(place)


def test_a_run_that_has_not_begun(place):
    assert status(place)["products"] == ColumnStatus(3, 0, 0, 0, {}, [])
    assert status(place)["total"] == ColumnStatus(None, 0, 0, 0, {}, [])


def test_a_finished_run(done):
    found = status(done.uri, "times.drop_every=3")
    assert list(found) == ["numbers", "products", "sums", "total"]
    assert found["numbers"] == ColumnStatus(3, 3, 12, 12, {}, [])
    assert found["products"] == ColumnStatus(3, 3, 12, 8, {"multiple": 4}, [])
    assert found["sums"] == ColumnStatus(3, 3, 8, 8, {}, [])


def test_what_would_be_replaced_is_not_done(done):
    found = status(done.uri, "times.drop_every=4")
    assert (found["numbers"].shards_done, found["numbers"].samples_out) == (3, 12)
    assert found["products"] == found["sums"] == ColumnStatus(3, 0, 0, 0, {}, [])
    assert found["total"] == ColumnStatus(None, 1, 3, 1, {}, [])  # what comes after them cannot be told


def test_what_waits_stands_as_it_is(done):
    """A barrier is still to run; how much of what follows it will be replaced is not known before."""
    graph = build_graph(load_recipe(RECIPE, STEPS, ["times.drop_every=3"]).nodes)
    plans = [replace(plan, pending=plan.shards or ()) for plan in Planner(graph, done).plan(graph.nodes)]
    assert [one.shards_done for one in column_status(done, plans).values()] == [0, 0, 0, 0]
    waiting = [replace(plan, waits=True) for plan in plans]
    assert [one.shards_done for one in column_status(done, waiting).values()] == [3, 3, 3, 1]


def test_what_would_be_removed_is_not_done(done):
    graph = build_graph(load_recipe(RECIPE, STEPS, ["times.drop_every=3"]).nodes)
    numbers, *_ = Planner(graph, done).plan(graph.nodes)
    fewer = replace(numbers, shards=("0000", "0001"), orphans=("0002",))
    assert column_status(done, [fewer])["numbers"] == ColumnStatus(2, 2, 8, 8, {}, [])


def test_the_index_changes_nothing(done, monkeypatch):
    before = status(done.uri)
    monkeypatch.setattr(index_module, "WORTH_INDEXING", 1)
    monkeypatch.setattr(index_module, "_YOUNG_NS", -1)
    for column in before:
        write_index(done.storage, done.receipts(column))
        assert done.receipts(column).opened == 0
    assert status(done.uri) == before


def test_damage_is_no_reason_to_fail(done):
    done.storage.write_bytes(receipt_path("products", "0001"), b"\xff")
    done.storage.write_bytes(error_path("products", "0002"), b"\xff")
    done.storage.write_bytes(error_path("products", "0001"), b'{"traceback": "an old tale"}')
    done.storage.write_bytes(retry_path("products", "0000"), b"\xff")
    found = status(done.uri)["products"]
    assert (found.shards_total, found.shards_done, found.failed) == (3, 0, ["0001", "0002"])
    failures = done.failures("products")
    assert failures["0001"] == "an old tale"
    assert "products/0002.error.json" in failures["0002"]
    assert failures["0002"].endswith(": damaged")


def test_a_failure_from_before_the_receipt_is_over(tmp_path):
    """As a kill leaves it that comes between a receipt and the end of the traceback before it."""
    run = RunDir(str(tmp_path))
    run.storage.write_bytes(error_path("numbers", "0000"), b'{"traceback": "oh"}')
    assert status(run.uri)["numbers"].failed == ["0000"]
    graph = build_graph(load_recipe(RECIPE, STEPS).nodes)
    Runner(graph, run, InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)
    run.storage.write_bytes(error_path("numbers", "0000"), b'{"traceback": "oh"}')
    os.utime(tmp_path / error_path("numbers", "0000"), ns=(10**18, 10**18))
    assert status(run.uri)["numbers"].failed == []
    assert run.failures("numbers") == {}
