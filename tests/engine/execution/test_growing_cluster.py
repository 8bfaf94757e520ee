"""A cluster to which nodes come: those that a step needs are waited for, and pools that may grow do."""

import os
import time
from dataclasses import dataclass

import pyarrow as pa
import pytest

from dap_engine.engine.execution.placement import ResourceError
from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.records.column import ParquetColumn
from dap_engine.engine.records.sample import Row, Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.limits import Pool
from dap_engine.engine.steps.step import SourceStage
from tests.engine.cluster import Nodes

SHARDS = 40


@dataclass
class Naps(SourceStage):
    """Says which worker slept over each shard."""

    name = "naps"
    writes = ParquetColumn("naps", pa.schema([("worker", pa.int64())]))

    def shards(self):
        return [f"{number:04d}" for number in range(SHARDS)]

    def source(self, shard):
        yield Sample(f"key-{shard}", {})

    def process(self, batch):
        for sample in batch:
            time.sleep(1)
            yield Row(sample.key, {"worker": os.getppid()})


@pytest.fixture
def nodes(monkeypatch):
    """A head that does no work."""
    cluster = Nodes(head_cpus=0, cpus=[])
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_are_waited_for_and_those_that_come_later_get_work(nodes, tmp_path):
    run, said = RunDir(str(tmp_path / "run")), list[str]()

    def log(line: str) -> None:
        said.append(line)
        nodes.add(1)

    executor = RayExecutor(wait_s=300, log=log)
    stage = Naps()
    outcomes = executor.run_chain([StageSpec.of(Node("naps", stage, pool=Pool(num_cpus=1)))], stage.shards(), run)
    statuses = [next(outcomes).status]
    nodes.add(1)
    statuses += [outcome.status for outcome in outcomes]
    executor.close()
    assert statuses == ["done"] * SHARDS
    assert said == ["waiting for nodes, 300 s at most: step 'naps' needs 1 CPU; the cluster has 0 CPU"]
    workers = [row.fields["worker"] for receipt in run.receipts("naps").values() for row in run.rows(receipt)]
    assert len(set(workers)) == 2


@pytest.mark.slow
def test_what_does_not_come_is_refused_when_the_time_is_over(nodes):
    executor = RayExecutor(wait_s=1, log=lambda line: None)
    try:
        with pytest.raises(ResourceError, match="needs 1 CPU; the cluster has 0 CPU"):
            executor.check({"naps": Pool(num_cpus=1)})
    finally:
        executor.close()
