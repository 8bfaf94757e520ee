"""Workers on another node get the module of a step by Ray's runtime environment, and nothing else of its folder."""

import pytest

from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.cluster import Nodes

MODULE = '''
import os
from dataclasses import dataclass

import pyarrow as pa

from dap_engine.engine import ParquetColumn, Row, Sample, SourceStage, stage


@dataclass
class Where(SourceStage):
    """Says where its own file lies, and what lies beside it."""

    name = "where"
    writes = ParquetColumn("places", pa.schema([("file", pa.string()), ("beside", pa.list_(pa.string()))]))

    def shards(self):
        return ["0000", "0001"]

    def source(self, shard):
        yield Sample(f"key-{shard}", {})

    def process(self, batch):
        for sample in batch:
            yield Row(sample.key, {"file": __file__, "beside": sorted(os.listdir(os.path.dirname(__file__)))})


@stage(reads=["places"], writes=ParquetColumn("lengths", pa.schema([("length", pa.int64())])))
def lengths(samples):
    for sample in samples:
        yield Row(sample.key, {"length": len(sample["places"]["file"])})
'''
RECIPE = 'steps: {where: {step: "far_steps:Where"}, lengths: {step: "far_steps:lengths"}}'


@pytest.fixture
def other_node(monkeypatch):
    """A cluster whose head does no work, so that another node does all of it."""
    nodes = Nodes(head_cpus=0, cpus=[2])
    for name, value in nodes.environment.items():
        monkeypatch.setenv(name, value)
    yield
    nodes.close()


@pytest.mark.slow
def test_workers_that_cannot_see_the_folder(other_node, tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "far_steps.py").write_text(MODULE)
    (project / "footage.mp4").write_bytes(b"x")
    monkeypatch.syspath_prepend(project)
    graph = build_graph(load_recipe(RECIPE, {}).nodes)
    executor = RayExecutor(steps=[type(node.step) for node in graph.nodes])
    project.rename(tmp_path / "out of sight")  # a node of a real cluster has never seen it
    run = RunDir(str(tmp_path / "run"))
    result = Runner(graph, run, lambda: executor, Progress()).run(graph.nodes)
    assert (result.worked, result.unfinished) == (4, [])
    rows = [row.fields for receipt in run.receipts("places").values() for row in run.rows(receipt)]
    assert len(rows) == 2
    for row in rows:
        assert str(tmp_path) not in row["file"]
        assert [name for name in row["beside"] if name != "__pycache__"] == ["far_steps.py"]
