"""Samples that make a stage raise, hang, crash or grow: they are dropped, and cost nobody else."""

import os
import pickle
from dataclasses import dataclass

import pytest

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.execution.supervisor import Supervisor
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.rundir.retry_marks import RetryMark, mark_for_retry
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.limits import Limits, Pool
from tests.engine.poison import batch_sizes, drops, run, supervised
from tests.engine.steps import Count, Times


def test_a_sample_that_raises_is_dropped_and_its_batch_split(place):
    result = run(place, "poison.raises=[5]")
    assert result.unfinished == []
    (drop,) = drops(place)
    assert (drop.key, drop.code, drop.retryable) == ("n000005", "stage_error", True)
    assert drop.detail == "RuntimeError: cannot double 5"
    assert batch_sizes(place) == {n: 1 if n in (4, 6, 7) else 4 for n in range(16) if n != 5}


def test_a_stage_that_gets_nothing_through_is_a_bug(tmp_path):
    result = run(str(tmp_path), f"poison.raises={list(range(8))}")
    assert [(o.node, o.shard) for o in result.unfinished if o.status == "failed"] == [
        ("poison", "0000"),
        ("total",) * 2,
    ]
    assert "cannot double 0" in RunDir(str(tmp_path)).failures("products")["0000"]


def test_a_stage_that_cannot_be_set_up_ends_the_run_with_its_traceback(tmp_path):
    """An OSError of the stage is none of the storage: it is not waited out, and not told as one."""
    result = run(str(tmp_path), f"poison.weights={tmp_path}")
    assert (result.stopped_at, result.shards_failed) == ("poison", False)
    (failed,) = [outcome for outcome in result.unfinished if outcome.status == "failed"]
    left = RunDir(str(tmp_path)).failures("products")[failed.shard]
    assert "IsADirectoryError" in left
    assert "in setup" in left


@dataclass
class Unsendable(Times):
    """Holds what does not pickle."""

    def __post_init__(self):
        self.held = open(os.devnull)  # noqa: SIM115


def test_a_stage_that_does_not_pickle_ends_the_run(tmp_path):
    graph = build_graph([Node("count", Count()), Node("times", Unsendable())])
    result = Runner(graph, RunDir(str(tmp_path)), InProcessExecutor, Progress()).run(graph.nodes)
    assert (result.stopped_at, result.shards_failed) == ("times", False)
    assert "cannot pickle" in RunDir(str(tmp_path)).failures("products")["times"]


class Lacking(Times):
    """Imports what it computes with when it first computes."""

    def process(self, batch):
        import a_package_that_is_not_there  # noqa: F401  # pyright: ignore

        return super().process(batch)


def test_a_package_that_is_missing_when_it_is_first_needed_ends_the_run(tmp_path):
    graph = build_graph([Node("count", Count()), Node("times", Lacking())])
    result = Runner(graph, RunDir(str(tmp_path)), InProcessExecutor, Progress()).run(graph.nodes)
    assert (result.stopped_at, result.shards_failed) == ("times", False)
    assert "No module named 'a_package_that_is_not_there'" in RunDir(str(tmp_path)).failures("products")["0000"]


def test_an_exception_in_the_child_before_the_stage_is_there_is_not_tried_again(tmp_path):
    """As where a worker lacks a module that the driver has."""
    spec = StageSpec("poison", "products", Pool(), Limits(), 1.0, pickle.dumps((Times(), {}))[:-20])
    with (tmp_path / "log").open("wb") as log:
        outcome = Supervisor(spec, RunDir(str(tmp_path / "run")), log).run("0000")
    assert (outcome.status, outcome.fatal) == ("failed", True)
    assert outcome.error == (tmp_path / "log").read_text()
    assert "UnpicklingError" in outcome.error or "EOFError" in outcome.error


def test_a_sample_that_hangs_is_dropped_after_the_limit(tmp_path):
    outcome = supervised(str(tmp_path), "poison.hangs=[2]")
    assert (outcome.status, outcome.samples_out, outcome.drops) == ("done", 7, {"timed_out": 1})
    (drop,) = drops(str(tmp_path))
    assert (drop.key, drop.retryable, drop.detail) == ("n000002", True, "took longer than 1 s, attempt 1")


def test_a_sample_that_crashes_its_worker_is_given_up_after_the_attempts(tmp_path):
    log = tmp_path / "log"
    outcome = supervised(str(tmp_path), "poison.kills=[6]", f"poison.log={log}")
    assert (outcome.status, outcome.samples_out, outcome.drops) == ("done", 7, {"worker_died": 1})
    (drop,) = drops(str(tmp_path))
    assert (drop.key, drop.retryable, drop.detail) == ("n000006", True, "died by SIGSEGV, attempt 3")
    of_six = [line.split() for line in log.read_text().splitlines() if "6" in line.split()]
    assert of_six == [["4", "5", "6", "7"]] * 2 + [["6"]] * 3


@pytest.mark.slow
def test_a_sample_that_takes_too_much_memory_is_given_up(tmp_path):
    outcome = supervised(str(tmp_path), "poison.bloats=[0]", "poison.limits.attempts=1", "poison.limits.sample_s=60")
    assert (outcome.status, outcome.drops) == ("done", {"out_of_memory": 1})
    (drop,) = drops(str(tmp_path))
    assert (drop.key, drop.detail) == ("n000000", "took more than 1.5 GiB, attempt 1")


def test_one_death_changes_no_byte(tmp_path):
    """A worker killed from outside: the batch is done again as it was, not sample by sample."""
    once = ["poison.kills=[6]", f"poison.cure={tmp_path / 'cure'}", "poison.once=true"]
    outcome = supervised(str(tmp_path / "run"), *once)
    assert (outcome.status, outcome.drops) == ("done", {})
    assert batch_sizes(str(tmp_path / "run")) == dict.fromkeys(range(8), 4)


def test_a_stage_of_whole_batches_has_none_split(tmp_path):
    result = run(str(tmp_path / "raises"), "poison.step=whole-poison", "poison.raises=[5]")
    assert next(outcome.node for outcome in result.unfinished if outcome.status == "failed") == "poison"
    assert "cannot double 5" in RunDir(str(tmp_path / "raises")).failures("products")["0000"]
    outcome = supervised(str(tmp_path / "kills"), "poison.step=whole-poison", "poison.kills=[6]")
    assert (outcome.status, outcome.fatal) == ("failed", False)
    assert outcome.error.startswith("a worker died by SIGSEGV over the batch of n000004")


@pytest.mark.parametrize("code", ["stage_error", None])
def test_work_marked_for_retry_is_done_alone(place, tmp_path, code):
    calm, log, cure = str(tmp_path / "calm"), tmp_path / "log", tmp_path / "cure"
    run(calm)
    settings = ["poison.raises=[5]", f"poison.log={log}", f"poison.cure={cure}"]
    run(place, *settings)
    log.write_text("")
    cure.touch()
    assert run(place, *settings).worked == 0
    mark_for_retry(RunDir(place), "products", "0000", RetryMark.of(code))
    assert run(place, *settings).worked == 3  # the shard, what is made of it, and the total
    assert log.read_text() == "4 5 6 7\n"
    assert drops(place) == []
    hashes = [
        {shard: receipt.output.sha256 for shard, receipt in RunDir(where).receipts("total").items()}
        for where in (calm, place)
    ]
    assert hashes[0] == hashes[1]
    assert batch_sizes(place) == batch_sizes(calm)
    assert run(place, *settings).worked == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("poison.budget.max_drops=2", "3 drops, more than max_drops 2"),
        (
            "{poison.budget.max_drop_share=0.3,poison.budget.min_samples=8}",
            "3 of 8 dropped, more than max_drop_share 0.3",
        ),
    ],
)
def test_a_stage_that_drops_too_much_stops_the_run(tmp_path, setting, words):
    overrides = setting.strip("{}").split(",")
    result = run(str(tmp_path), "poison.raises=[0, 1, 2]", *overrides)
    assert result.over_budget == f"poison: {words}"
    assert list(RunDir(str(tmp_path)).receipts("products")) == ["0000"]
    again = run(str(tmp_path), "poison.raises=[0, 1, 2]", *overrides)
    assert again.over_budget == result.over_budget
    assert run(str(tmp_path), "poison.raises=[0, 1, 2]").over_budget == ""


def test_shards_that_fail_in_a_row_stop_the_run(tmp_path):
    harm = [f"poison.raises={list(range(80))}", "count.total_shards=10", "poison.budget.max_failed_in_a_row=4"]
    result = run(str(tmp_path), *harm)
    assert result.over_budget == "poison: 4 shards failed in a row"
    assert len(RunDir(str(tmp_path)).failures("products")) == 4
