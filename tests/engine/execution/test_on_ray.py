"""What runs on Ray as it does in one process. All tests here share one Ray of one CPU."""

import pytest
import ray

from dap_engine.engine.execution.placement import ResourceError
from dap_engine.engine.execution.ray_executor import RayExecutor, connect, machines
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.execution.test_runner import hashes, run
from tests.engine.poison import batch_sizes, drops
from tests.engine.poison import run as run_poisoned


@pytest.fixture(scope="module", autouse=True)
def ray_of_one_cpu():
    """As in a notebook that is connected to a Ray already."""
    connect(num_cpus=1)
    yield
    ray.shutdown()


def test_a_ray_that_is_there_is_used_and_stays():
    executor = RayExecutor(num_cpus=3)
    assert [machine["CPU"] for machine in machines()] == [1]
    executor.close()
    assert ray.is_initialized()


@pytest.mark.slow
def test_the_same_bytes_as_in_process_on_fewer_cpus_than_stages(tmp_path):
    """Three chained stages of one CPU each."""
    run(str(tmp_path / "a"), "times.drop_every=3")
    result = run(str(tmp_path / "b"), "times.drop_every=3", executor=RayExecutor)
    assert (result.worked, result.unfinished) == (10, [])
    assert hashes(str(tmp_path / "a")) == hashes(str(tmp_path / "b"))


def test_a_stage_that_does_not_fit_is_refused_before_any_work(tmp_path):
    with pytest.raises(ResourceError, match="step 'add' needs 4 CPU; the cluster has 1 CPU"):
        run(str(tmp_path), "add.pool.num_cpus=4", executor=RayExecutor)
    assert RunDir(str(tmp_path)).columns() == []


@pytest.mark.slow
def test_a_stage_that_cannot_be_set_up_ends_the_run_with_its_traceback(tmp_path):
    result = run_poisoned(str(tmp_path), f"poison.weights={tmp_path}", executor=RayExecutor)
    assert (result.stopped_at, result.shards_failed) == ("poison", False)
    (failed,) = [outcome for outcome in result.unfinished if outcome.status == "failed"]
    left = RunDir(str(tmp_path)).failures("products")[failed.shard]
    assert "IsADirectoryError" in left
    assert "in setup" in left


@pytest.mark.slow
def test_samples_that_raise_hang_and_kill(tmp_path):
    settings = ["poison.raises=[1]", "poison.hangs=[5]", "poison.kills=[9]", "poison.limits.attempts=1"]
    result = run_poisoned(str(tmp_path), *settings, executor=RayExecutor)
    assert result.unfinished == []
    assert {drop.key: drop.code for drop in drops(str(tmp_path))} == {
        "n000001": "stage_error",
        "n000005": "timed_out",
        "n000009": "worker_died",
    }
    assert sorted(batch_sizes(str(tmp_path))) == [n for n in range(16) if n not in (1, 5, 9)]
    (log, *_) = (tmp_path / "logs" / "poison").iterdir()
    assert "RuntimeError: cannot double 1" in log.read_text()
