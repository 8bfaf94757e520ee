"""The arithmetic of a forecast, on numbers that are easily checked by hand."""

import dataclasses
from typing import Any

import pytest

from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import NodePlan
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.probing.forecast import Forecast, forecast
from dap_engine.engine.probing.measure import Measured
from dap_engine.engine.probing.probe import Probed
from dap_engine.engine.steps.limits import Pool
from tests.engine.steps import Add, Count, Times

SHARDS = tuple(f"{number:04d}" for number in range(10))
MEASURED = Measured(
    samples_in=20,
    samples_out=10,
    drops={"multiple": 10},
    set_up_s=30.0,
    sample_s=2.0,
    finish_s=1.0,
    steady=True,
    cores=0.8,
    peak_bytes=3 << 30,
    output_bytes=1500,
    empty_bytes=500,
    samples_in_shard=None,
)


def predict(machines: list[dict[str, float]], *, shards: tuple[str, ...] = SHARDS, **pools: Pool) -> Forecast:
    """Ten shards of 50 numbers; `times` and `add` cost what MEASURED says, `count` is done."""
    graph = build_graph(
        Node(step.name, step, pools.get(step.name, Pool())) for step in (Count(len(SHARDS), 50), Times(), Add())
    )
    plans = {node.name: NodePlan(node, SHARDS, () if node.name == "count" else shards, {}) for node in graph.nodes}
    probed = [Probed(node, SHARDS[0], MEASURED) for node in graph.nodes if node.name in pools]
    samples: dict[str, Any] = {"numbers": dict.fromkeys(SHARDS, 50)}
    chains = graph.chains([each.node for each in probed])
    return forecast(probed, plans, chains, lambda column: samples.get(column, {}), machines)


def test_a_stage_takes_its_shards_in_waves():
    stage = predict([{"CPU": 4}], times=Pool()).stages["times"]
    assert (stage.workers, stage.samples_in, stage.samples_out) == (4, 500, 250)
    assert stage.shard_s == 1 + 50 * 2
    assert stage.wall_s == 30 + 3 * 101  # ten shards on four workers
    assert stage.core_hours == pytest.approx((10 * 101 + 4 * 30) / 3600)
    assert stage.bytes == 250 * 100 + 10 * 500


@pytest.mark.parametrize(
    ("pool", "machines", "workers"),
    [
        (Pool(max_workers=3), [{"CPU": 64}], 3),
        (Pool(), [{"CPU": 64}], 10),  # no more than shards
        (Pool(num_cpus=3), [{"CPU": 4}, {"CPU": 4}], 2),  # each whole on a machine
        (Pool(num_gpus=0.5), [{"CPU": 64, "GPU": 2}], 4),
        (Pool(memory_gib=8), [{"CPU": 64, "memory": 20 * 2**30}], 2),
        (Pool(num_cpus=4), [], 1),  # a run in one process
    ],
)
def test_workers_are_what_the_pool_and_the_machines_allow(pool, machines, workers):
    assert predict(machines, times=pool).stages["times"].workers == workers


def test_in_one_process_a_set_up_counts_once():
    assert predict([], times=Pool(), add=Pool()).wall_s == 30 + 10 * (1 + 50 * 2) + 10 * (1 + 25 * 2)


def test_stages_of_a_chain_overlap():
    alone = predict([{"CPU": 100}], times=Pool(max_workers=2)).wall_s
    together = predict([{"CPU": 100}], times=Pool(max_workers=2), add=Pool())
    assert alone == 30 + 5 * 101
    assert together.stages["add"].samples_in == 250  # what `times` leaves
    assert together.wall_s == alone + 51  # the last shard's way through `add`


def test_stages_that_share_too_few_cores_do_not():
    predicted = predict([{"CPU": 1}], times=Pool(), add=Pool())
    assert predicted.wall_s == pytest.approx(10 * 101 + 30 + 10 * 51 + 30)


def test_cores_that_a_stage_keeps_busy_count_even_if_it_did_not_ask_for_them():
    assert predict([{"CPU": 1}], times=Pool(num_cpus=0.25)).core_hours == pytest.approx((1010 + 4 * 30) * 0.8 / 3600)


def test_nothing_left_to_do_takes_nothing():
    predicted = predict([{"CPU": 4}], shards=(), times=Pool(), add=Pool())
    assert (predicted.wall_s, predicted.core_hours, predicted.bytes) == (0, 0, 0)


def test_memory_that_will_not_do_is_said():
    small = dataclasses.replace(Pool(), memory_gib=2)
    assert predict([{"CPU": 4, "memory": 64 * 2**30}], times=small).warnings == (
        "times: a worker took 3.0 GiB; its pool.memory_gib is 2",
    )
    assert predict([{"CPU": 4, "memory": 8 * 2**30}], times=Pool()).warnings == (
        "times: 4 workers of 3.0 GiB, but 8.0 GiB are there",
    )
    assert predict([{"CPU": 2, "memory": 8 * 2**30}], times=Pool()).warnings == ()
