"""A probe measures stages whose cost is known, writes nothing into the run, and foretells what the run then does."""

import tempfile
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.pipeline import read_ahead
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.execution.samples import ShardWork
from dap_engine.engine.planning.graph import Graph, build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.probing.forecast import Forecast, forecast
from dap_engine.engine.probing.measure import Measured, Pace
from dap_engine.engine.probing.probe import Probe, Probed
from dap_engine.engine.records.sample import Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import StageContext
from dap_engine.engine.storage.storage import Storage
from tests.engine.probing.costly_steps import COSTLY_STEPS, CostlyModel

MIB = 1 << 20
COUNT = "count: {step: count, total_shards: 5, per_shard: 40}"


def graph_of(*steps: str) -> Graph:
    return build_graph(load_recipe("steps:\n" + "\n".join(f"  {step}" for step in steps), COSTLY_STEPS).nodes)


def probe(
    folder: Path, graph: Graph, place: str = "", limit_s: float = 60.0, in_process: bool = False, **select
) -> tuple[Probe, list[Probed]]:
    (folder / "made").mkdir()
    run = RunDir(place or str(folder / "run"))
    probe = Probe(graph, run, folder / "made", log=lambda line: None, in_process=in_process)
    return probe, probe.run(graph.select(**select), limit_s)


def measured(folder: Path, *steps: str) -> dict[str, Measured]:
    _, probed = probe(folder, graph_of(*steps))
    assert not [each.why_not for each in probed if each.why_not]
    return {each.node.name: each.measured for each in probed if each.measured}


def run(graph: Graph, place: str, **select) -> None:
    result = Runner(graph, RunDir(place), InProcessExecutor, Progress()).run(graph.select(**select))
    assert not result.unfinished


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_stage_computes_with_as_many_threads_as_in_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    graph = graph_of(COUNT, "threads: {step: count-threads, pool: {num_cpus: 3}}")
    for in_process, threads in ((False, "threads_3"), (True, "threads_None")):
        folder = tmp_path / threads
        folder.mkdir()
        _, (_, probed) = probe(folder, graph, in_process=in_process)
        assert probed.measured
        assert probed.measured.drops.keys() == {threads}


@pytest.mark.parametrize("step", ["costly", pytest.param("costly-model", marks=pytest.mark.slow)])
def test_time_is_told_apart_into_set_up_warm_up_and_samples(tmp_path, step):
    costly = f"costly: {{step: {step}, set_up_s: 0.5, warm_up_s: 1.0, sample_s: 0.05}}"
    found = measured(tmp_path, COUNT, costly)["costly"]
    assert found.steady
    assert 0.05 <= found.sample_s < 0.1  # with the first batch, and its second of warming up, it would be 0.075 or more
    assert found.set_up_s >= 0.5
    assert found.samples_in == 40
    assert found.cores < 0.5


@pytest.mark.parametrize(
    ("sample_s", "batch_size", "there", "taken"),
    [
        (0.001, 1, 1000, 64),
        (0.001, 50, 1000, 100),  # a batch to warm up, and another
        (0.001, 8, 5, 5),
        (3.0, 1, 1000, 4),  # the fourth begins before ten seconds are over
        (30.0, 1, 1000, 2),
        (70.0, 1, 1000, 1),
    ],
)
def test_the_slower_a_stage_the_fewer_samples_it_gets(monkeypatch, sample_s, batch_size, there, taken):
    now_s = 100.0
    monkeypatch.setattr("dap_engine.engine.probing.measure.time", SimpleNamespace(monotonic=lambda: now_s))
    pace = Pace(batch_size)
    for _ in pace.few(Sample(f"{number:04d}", {}) for number in range(there)):
        now_s += sample_s
    pace.in_flight(())
    assert (pace.samples, pace.rest()) == (taken, there - taken)
    assert pace.sample_s() == (pytest.approx(sample_s), taken > batch_size)


@pytest.mark.parametrize(("batch_size", "samples"), [(2, 2), (50, 40)])
def test_a_stage_that_reads_ahead_is_stopped_as_early(tmp_path, monkeypatch, batch_size, samples):
    """Its first batch takes long: no second one is read, though there would be time to while it lasts."""
    monkeypatch.setattr("dap_engine.engine.probing.measure._TOO_LONG_S", 0.5)
    pace = Pace(batch_size, reads_ahead=True)
    stage = CostlyModel(batch_size=batch_size, warm_up_s=1.0)
    work = ShardWork(stage, stage.writes.writer(tmp_path), in_flight=pace.in_flight)
    stage.setup(StageContext(Storage("/"), {}))
    few = pace.few(Sample(f"{number:04d}", {}) for number in range(40))
    for batch in read_ahead(iter(lambda: list(islice(few, batch_size)), []), work.flush):
        work.take(batch)
    work.finish()
    work.close()
    assert (pace.samples, work.samples_out) == (samples, samples)


def test_work_is_told_from_waiting(tmp_path):
    found = measured(tmp_path, COUNT, "costly: {step: costly, sample_s: 0.02, busy: true}")["costly"]
    assert 0.5 < found.cores < 1.3 or found.sample_s > 0.04  # on a machine that others keep busy


def test_memory_is_that_of_the_stage_and_its_children_alone(tmp_path):
    held = b"x" * (400 * MIB)  # a process inherits the ru_maxrss of its parent
    steps = ("lean: {step: costly}", "own: {step: costly, column: own, mib: 200}")
    of_child = "child: {step: costly, column: child, child_mib: 200, batch_size: 1}"
    count = "count: {step: count, total_shards: 1, per_shard: 3}"
    peaks = {name: found.peak_bytes / MIB for name, found in measured(tmp_path, count, *steps, of_child).items()}
    assert len(held) == 400 * MIB
    assert peaks["lean"] < 200
    assert 190 < peaks["own"] - peaks["lean"] < 260
    # The most of the lean one is in its commit, when a child would have gone.
    assert 140 < peaks["child"] - peaks["lean"] < 260


def test_what_a_probe_foretells_is_what_the_run_then_does(tmp_path):
    graph = graph_of(
        COUNT,
        "wide: {step: costly, column: wide, rows: 3, row_bytes: 5000, drop_every: 4}",
        "narrow: {step: costly, column: narrow, reading: wide, row_bytes: 10}",
        "times: {step: times, drop_every: 10}",
    )
    probe_, probed = probe(tmp_path, graph)
    predicted = forecast(probed, probe_.plans, graph.chains(graph.nodes), probe_.samples, ())
    assert not (tmp_path / "run").exists()
    run(graph, str(tmp_path / "run"))
    assert_foretold(predicted, RunDir(str(tmp_path / "run")))


def assert_foretold(predicted: Forecast, done: RunDir) -> None:
    for stage in predicted.stages.values():
        receipts = list(done.receipts(stage.node.step.writes.name).values())
        assert stage.shards == len(receipts)
        assert stage.samples_in == pytest.approx(sum(receipt.samples_in for receipt in receipts), rel=0.1)
        assert stage.samples_out == pytest.approx(sum(receipt.samples_out for receipt in receipts), rel=0.1)
        assert stage.bytes == pytest.approx(sum(receipt.output.bytes for receipt in receipts), rel=0.3)


@pytest.mark.slow
def test_a_stage_that_fails_is_said_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the logs stay there
    graph = graph_of(
        "count: {step: count}",
        "raises: {step: costly, column: a, fails: raises}",
        "crashes: {step: costly, column: b, fails: crashes}",
        "hangs: {step: costly, column: c, fails: hangs}",
        "after: {step: costly, column: d, reading: a}",
        "weightless: {step: costly, column: e, weights: 'run:models/none'}",
        "times: {step: times}",
        "none: {step: costly, column: models/none}",
    )
    _, probed = probe(tmp_path, graph, limit_s=15.0, only=[node.name for node in graph.nodes if node.name != "none"])
    logs = {each.node.name: Path(each.log).read_text() for each in probed if each.log}
    assert list(logs) == ["raises", "crashes", "hangs"]
    assert "in work" in logs["raises"]
    why = {each.node.name: each.why_not for each in probed}
    assert why == {
        "count": "",
        "raises": "RuntimeError: cannot do it",
        "crashes": "died by SIGSEGV",
        "hangs": "took longer than 15 s",
        "after": "needs a",
        "weightless": "needs run:models/none",
        "times": "",
    }


def test_inputs_come_from_the_run_where_it_has_them_and_it_stays_as_it_is(tmp_path, place):
    graph = graph_of(
        "count: {step: count}", "costly: {step: costly}", "more: {step: costly, column: more, reading: costs}"
    )
    run(graph, place, until="costly")
    before = files(Path(place))
    probe_, probed = probe(tmp_path, graph, place, only=["more"])
    assert probed[0].measured
    assert probed[0].measured.samples_in == 4
    assert probe_.plans["more"].pending == ("0000", "0001", "0002")
    assert files(Path(place)) == before


def test_inputs_that_the_run_would_make_anew_are_those_of_the_probe(tmp_path):
    run(graph_of("count: {step: count}"), str(tmp_path / "run"))
    changed = graph_of("count: {step: count, per_shard: 10}", "costly: {step: costly}")
    probe_, probed = probe(tmp_path, changed)
    assert [each.measured.samples_in for each in probed if each.measured] == [10, 10]
    predicted = forecast(probed, probe_.plans, changed.chains(changed.nodes), probe_.samples, ())
    assert predicted.stages["costly"].samples_in == 30
