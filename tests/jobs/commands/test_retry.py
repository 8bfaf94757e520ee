"""What operators do about drops and failures: budgets, `dap retry`, logs, metrics."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.jobs.conftest import content_hashes

SETTINGS = ["plan.videos_per_shard=2", "extract.every_s=1.0", "extract.height=96", "executor=in-process"]


@pytest.fixture
def videos(footage, tmp_path):
    """Links to six videos; those that a test spoils are copies of the same size."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for path in sorted(footage.rglob("*.mp4")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def spoil(video):
    """Returns what undoes it, as a copy does that keeps times."""
    good, status = video.read_bytes(), video.stat()
    video.write_bytes(b"\0" * len(good))

    def mend():
        video.write_bytes(good)
        os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))

    return mend


def curate(place, videos, *settings, only="plan,extract"):
    options = [word for setting in [f"videos={videos}", *SETTINGS, *settings] for word in ("--set", setting)]
    return ["run", "curate", "--run-dir", str(place), "--only", only, *options]


def drops_of(dap_here, place, column="frames"):
    return json.loads(dap_here("status", "--run-dir", place, "--json").stdout)["columns"][column]["drops"]


@pytest.mark.slow
def test_retry_puts_drops_of_a_code_back_and_does_only_them(dap, dap_here, videos, tmp_path):
    calm, place, names = tmp_path / "calm", tmp_path / "run", sorted(videos.iterdir())
    assert dap_here(*curate(calm, videos, only="plan,extract,tag")).returncode == 0
    mend = spoil(names[0])
    spoiled = dap_here(*curate(place, videos, only="plan,extract,tag"))
    assert spoiled.returncode == 0, spoiled.stderr
    (code,) = drops_of(dap_here, place)
    mend()
    retry = ("retry", "--run-dir", place, "--column", "frames")
    unknown = dap_here(*retry, "--code", "other")
    assert (unknown.returncode, unknown.stderr) == (
        2, f"dap retry: no drop of frames has the code 'other'; there are [{code!r}]\n"
    )  # fmt: skip
    retried = dap("retry", "--run-dir", place, "--column", "frames", "--code", code)
    assert retried.returncode == 0, retried.stderr
    assert "put back in frames: drops of 1 shards, 0 failed shards" in retried.stderr
    assert "extract: 1 of 3 to do" in retried.stderr
    assert drops_of(dap_here, place) == {}
    assert dap_here(*curate(place, videos, only="plan,extract,tag")).returncode == 0
    assert content_hashes(place) == content_hashes(calm)
    assert dap_here("verify", "--run-dir", place).returncode == 0


def test_retry_of_an_unknown_column_is_a_usage_error(dap_here, videos, tmp_path):
    assert dap_here(*curate(tmp_path / "run", videos, only="plan")).returncode == 0
    wrong = dap_here("retry", "--run-dir", tmp_path / "run", "--column", "nothing")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "no column 'nothing' that is made shard by shard; those are ['frames', 'labels-1', 'tags']" in wrong.stderr


def test_a_budget_stops_the_run_with_a_table_of_codes(dap_here, videos, tmp_path):
    for video in sorted(videos.iterdir())[:3]:
        spoil(video)
    command = curate(tmp_path / "run", videos, "extract.budget.max_drops=1", only="plan,extract,tag")
    stopped = dap_here(*command)
    assert stopped.returncode == 3
    assert "stopped: extract: 2 drops, more than max_drops 1" in stopped.stderr
    assert "drops of frames" in stopped.stderr
    (code,) = drops_of(dap_here, tmp_path / "run")
    assert code in stopped.stderr.split("drops of frames")[1]
    assert not (tmp_path / "run" / "receipts" / "frames" / "000002.json").exists()
    assert dap_here(*command, "--set", "extract.budget.max_drops=3").returncode == 0


@pytest.mark.slow
def test_a_run_on_ray_can_be_scraped_and_leaves_logs(dap_here, videos, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spoil(sorted(videos.iterdir())[0])
    options = ["--metrics-port", str(port), "--set", "executor=ray"]
    slow = ["extract.every_s=0.25", "plan.videos_per_shard=1"]
    command = [*curate(tmp_path / "run", videos, *slow, only="plan,extract,tag"), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "dap_engine.jobs", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_metrics_report_interval_ms": "500"},  # instead of every 10 s
    )
    seen = ""
    while process.poll() is None:
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            seen = text if 'stage="extract"' in text else seen
        except OSError:
            pass  # not yet, or not any more
        time.sleep(0.2)
    assert process.returncode == 0, process.communicate()[1]
    for name in (
        "ray_dap_samples_total",
        "ray_dap_bytes_written_total",
        "ray_dap_seconds_total",
        "ray_dap_drops_total",
    ):
        assert any(line.startswith(name) and 'stage="extract"' in line for line in seen.splitlines()), name
    status = dap_here("status", "--run-dir", tmp_path / "run")
    folder = tmp_path / "run" / "logs"
    assert f"logs of the workers: {folder}" in status.stdout
    (log,) = (folder / "extract").iterdir()
    assert "shard 000001 done, 1 in" in log.read_text()
