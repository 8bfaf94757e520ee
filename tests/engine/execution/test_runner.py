import collections
import os
import sys
import time
from unittest.mock import Mock

import pytest

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.drops import read_drops
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Storage
from dap_engine.engine.verification.verify import verify_run
from tests.engine.steps import RECIPE, STEPS, Times, Total


def run(place, *overrides, executor=InProcessExecutor, only=(), until=None):
    graph = build_graph(load_recipe(RECIPE, STEPS, overrides).nodes)
    return Runner(graph, RunDir(place), executor, Progress()).run(graph.select(only, until))


def hashes(place):
    directory = RunDir(place)
    receipts = [receipt for column in directory.columns() for receipt in directory.receipts(column).values()]
    return {(receipt.column, receipt.shard): (receipt.fingerprint, receipt.output.sha256) for receipt in receipts}


def plans(place, *overrides):
    graph = build_graph(load_recipe(RECIPE, STEPS, overrides).nodes)
    return {plan.node.name: plan for plan in Planner(graph, RunDir(place)).plan(graph.nodes)}


def test_a_run_counts_drops_and_says_ok(place):
    result = run(place, "times.drop_every=3")
    assert (result.worked, result.unfinished) == (10, [])
    receipts = RunDir(place).receipts("products").values()
    assert sum((collections.Counter(r.drops) for r in receipts), collections.Counter()) == {"multiple": 4}
    assert sum(r.samples_in for r in receipts) == sum(r.samples_out for r in receipts) + 4
    (total,) = RunDir(place).rows(RunDir(place).receipts("total")["all"])
    assert total.fields["total"] == sum(3 * n for n in range(12) if n % 3)
    assert verify_run(RunDir(place)).problems == []


def test_a_finished_run_does_nothing(place):
    run(place)
    before = hashes(place)
    assert run(place).worked == 0
    assert hashes(place) == before
    assert all(plan.done for plan in plans(place).values())


def test_claims_of_attempts_that_died_days_ago_are_swept(tmp_path):
    run(str(tmp_path))
    claims = tmp_path / "receipts" / "products" / "0001.claims"
    claims.mkdir()
    old, young = claims / "old", claims / "young"
    for claim in (old, young):
        claim.touch()
    two_days_ago_s = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago_s, two_days_ago_s))
    assert run(str(tmp_path)).worked == 0
    assert (old.exists(), young.exists()) == (False, True)


def test_a_changed_setting_reruns_exactly_what_depends_on_it(tmp_path):
    place = str(tmp_path)
    run(place)
    changed = plans(place, "times.factor=3")
    assert {name: len(plan.pending) for name, plan in changed.items()} == {"count": 0, "times": 3, "add": 3, "total": 0}
    assert changed["times"].reasons == {"setting factor changed": 3}
    assert changed["total"].shards is None
    assert run(place, "times.factor=3").worked == 7
    assert run(place, "times.factor=3", "total.bonus=1").worked == 1


def test_a_change_that_leaves_the_output_as_it_was_stops_there(tmp_path):
    place = str(tmp_path)
    run(place)
    assert run(place, "times.batch_size=1").worked == 3  # the same products, so the sums made of them stay


def test_lost_receipt_redoes_one_shard(tmp_path):
    place = str(tmp_path)
    run(place)
    before = hashes(place)
    RunDir(place).storage.delete("receipts/products/0001.json")
    assert run(place).worked == 1
    assert hashes(place) == before


def test_an_output_deleted_by_hand_is_made_again(place):
    run(place)
    before = hashes(place)
    RunDir(place).storage.delete("products/0001.parquet")
    assert run(place).worked == 1
    assert hashes(place) == before
    assert verify_run(RunDir(place)).problems == []


def test_a_receipt_never_vouches_for_what_replaced_its_output(tmp_path, monkeypatch):
    """Killed between output and receipt of a changed recipe, then back to the first one: done anew, not up to date."""
    place = str(tmp_path)
    run(place)
    before = hashes(place)
    publish = Storage.publish

    def publish_and_die(self, *arguments):
        publish(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "publish", publish_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(place, "times.factor=7")
    assert run(place).worked >= 1
    assert hashes(place) == before
    assert verify_run(RunDir(place)).problems == []


def test_verify_finds_a_column_made_from_another_than_there_is(tmp_path):
    place = str(tmp_path)
    run(place)
    run(place, "times.factor=5", until="times")
    assert "sums/0000: was made from another products than there is" in verify_run(RunDir(place)).problems


def test_a_bug_fails_its_shard_alone_and_the_barrier_waits(tmp_path):
    place = str(tmp_path)
    result = run(place, "times.raise_at=[4, 5, 6, 7]")
    failed = [outcome for outcome in result.unfinished if outcome.status == "failed"]
    assert [(outcome.node, outcome.shard) for outcome in failed] == [("times", "0001"), ("total", "total")]
    assert result.stopped_at == "total"
    assert "cannot multiply 4" in RunDir(place).failures("products")["0001"]
    assert sorted(RunDir(place).receipts("products")) == ["0000", "0002"]
    assert sorted(RunDir(place).receipts("sums")) == ["0000", "0002"]
    assert run(place).unfinished == []
    assert RunDir(place).failures("products") == {}


@pytest.mark.parametrize(
    ("step", "method", "column"),
    [(Times, "setup", "products"), (Times, "process", "products"), (Total, "run", "total")],
)
def test_a_step_that_exits_has_failed(tmp_path, monkeypatch, step, method, column):
    monkeypatch.setattr(step, method, lambda *_: sys.exit())
    result = run(str(tmp_path))
    assert step.name in {outcome.node for outcome in result.unfinished if outcome.status == "failed"}
    errors = RunDir(str(tmp_path)).failures(column).values()
    assert errors
    assert all("SystemExit" in error for error in errors)


def test_a_stage_that_loses_samples_ends_the_run(tmp_path, monkeypatch):
    process = Times.process
    monkeypatch.setattr(
        Times, "process", lambda stage, batch: (row for row in process(stage, batch) if "3" not in row.key)
    )
    result = run(str(tmp_path))
    assert result.stopped_at == "times"
    assert "1 of 4 samples became neither a row nor a drop" in RunDir(str(tmp_path)).failures("products")["0000"]


def test_a_sample_may_raise_any_text(tmp_path, monkeypatch):
    process = Times.process

    def raising(stage, batch):
        if any(sample.key == "n000001" for sample in batch):
            raise OSError("no file \ud800.jpg")
        return process(stage, batch)

    monkeypatch.setattr(Times, "process", raising)
    assert run(str(tmp_path)).unfinished == []
    (drop,) = read_drops(RunDir(str(tmp_path)), RunDir(str(tmp_path)).receipt("products", "0000"))
    assert drop.detail == "OSError: no file \\ud800.jpg"


def test_tracebacks_of_samples_are_in_the_log_of_their_step_and_not_on_the_terminal(tmp_path, capsys):
    run(str(tmp_path), "times.raise_at=[4, 9]")
    said = capsys.readouterr().err
    assert "2 dropped" in said
    assert "Traceback" not in said
    assert "cannot multiply" not in said
    (log,) = (tmp_path / "logs" / "times").iterdir()
    assert log.read_text().count("RuntimeError: cannot multiply 4\n") == 1
    assert log.read_text().count("Traceback") == 2
    assert "shard 0001 done, 4 in, 3 out" in log.read_text()
    assert [step.name for step in (tmp_path / "logs").iterdir()] == ["times"]


def test_ctrl_c_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Times, "process", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(str(tmp_path))
    assert RunDir(str(tmp_path)).failures("products") == {}


def test_selected_steps_need_what_came_before(tmp_path):
    result = run(str(tmp_path), only=["total"])
    assert result.stopped_at == "total"
    assert "needs step 'add', which is not complete" in result.unfinished[0].error
    assert run(str(tmp_path), until="times").worked == 6
    assert run(str(tmp_path), only=["add", "total"]).worked == 4


def test_a_smaller_recipe_leaves_nothing_of_a_larger_one(place, capsys):
    run(place, "times.drop_every=3")
    run(place, "times.drop_every=3", "count.total_shards=2")
    assert "times: removes 1 outputs of shards that the recipe has no more" in capsys.readouterr().err
    assert sorted(RunDir(place).receipts("products")) == ["0000", "0001"]
    assert verify_run(RunDir(place)).problems == []
    (total,) = RunDir(place).rows(RunDir(place).receipts("total")["all"])
    assert total.fields["total"] == sum(3 * n for n in range(8) if n % 3)
