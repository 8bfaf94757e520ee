"""kill -9 of the whole process group in the middle of a stage: the same command ends with the very same bytes."""

import sys

import pytest

from tests.jobs.conftest import content_hashes, kill_group_when


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_extract_and_in_label_then_resumed(dap, dap_here, footage, tiny_model, tmp_path):
    settings = [f"videos={footage}", f"label.model={tiny_model}", "plan.videos_per_shard=1", "extract.every_s=0.5"]
    settings += ["extract.height=96", "label.batch_size=1", "tag.pool.max_workers=1", "label.pool.max_workers=1"]
    options = [word for setting in settings for word in ("--set", setting)]
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    undisturbed = dap_here("run", "curate", "--run-dir", calm, *options, "--set", "executor=in-process")
    assert undisturbed.returncode == 0, undisturbed.stderr
    command = [sys.executable, "-m", "dap_engine.jobs", "run", "curate", "--run-dir", str(killed), *options]

    def done(column: str) -> int:
        return len(list((killed / "receipts" / column).glob("*.json")))

    kill_group_when(lambda: done("frames") >= 1, command)
    extracted = done("frames")
    assert 1 <= extracted < 6
    kill_group_when(lambda: done("labels-1") > min(extracted, 3), command)
    assert done("labels-1") < 6

    resumed = dap("run", "curate", "--run-dir", killed, *options)
    assert resumed.returncode == 0, resumed.stderr
    assert content_hashes(killed) == content_hashes(calm)
    again = dap_here("run", "curate", "--run-dir", killed, *options)
    assert (again.returncode, "up to date: nothing to do" in again.stderr) == (0, True)
    assert dap_here("verify", "--run-dir", killed).returncode == 0
