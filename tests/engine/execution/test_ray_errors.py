"""What is said of pipelines that Ray loses, without a Ray."""

import pytest
import ray
from ray.exceptions import RayError

from dap_engine.engine.execution import ray_executor as module
from dap_engine.engine.execution.placement import ClusterError
from dap_engine.engine.execution.ray_executor import RayExecutor, connect
from dap_engine.engine.execution.run_shard import StageSpec
from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.steps import Count


@pytest.mark.parametrize(
    ("text", "line"),
    [("Traceback\nits node \ud800 is gone", "its node \ud800 is gone"), ("", "no message"), (None, "")],
)
def test_the_last_of_many_lost_pipelines_is_told_and_kept(tmp_path, monkeypatch, text, line):
    def lose(_executor, _segment, progress, _run):
        progress.last_error = None if text is None else RayError(text)
        yield from ()
        return False

    monkeypatch.setattr(RayExecutor, "_run_pipeline", lose)
    monkeypatch.setattr(module, "machines", lambda: [{"CPU": 8.0}])
    monkeypatch.setattr(module, "connect", lambda *_: True)
    chain = [StageSpec.of(Node("count", Count()))]
    with pytest.raises(ClusterError, match="5 Ray Data pipelines were lost") as caught:
        list(RayExecutor().run_chain(chain, ["0000"], RunDir(str(tmp_path))))
    assert line in str(caught.value)
    kept = tmp_path / "logs" / "pipeline.error.txt"
    assert kept.exists() == (text is not None)
    assert (str(kept) in str(caught.value)) == kept.exists()


def test_an_error_of_ray_without_words_is_named(monkeypatch):
    def fail(**_):
        raise TimeoutError

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match=r"no Ray at local: TimeoutError\(\)"):
        connect()
