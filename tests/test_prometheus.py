"""The dashboards of infra/grafana against a real Prometheus that has scraped a real run: every query has data."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dap_engine.engine.meters import METERS
from dap_engine.engine.rundir.rundir import RunDir
from tests.conftest import REPOSITORY
from tests.jobs.whole_run import RECIPE, write_videos

DASHBOARDS = sorted((REPOSITORY / "infra/grafana").glob("*.json"))
CONFIG = REPOSITORY / "infra/prometheus/prometheus.yml"
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"
)


def queries(dashboard: Path) -> dict[str, str]:
    """Every query of every panel, by its title."""
    panels = json.loads(dashboard.read_text())["panels"]
    return {f"{panel['title']} {it['refId']}": it["expr"] for panel in panels for it in panel["targets"]}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_dashboards_and_meters_agree():
    """No panel shows what is not measured, and nothing is measured that no panel shows."""
    shown = " ".join(query for dashboard in DASHBOARDS for query in queries(dashboard).values())
    names = {f"ray_{name}_total" if meter.total else f"ray_{name}" for name, meter in METERS.items()}
    for name in names:
        assert name in shown
    for word in shown.replace("(", " ").replace("{", " ").replace("[", " ").replace(")", " ").split():
        assert not word.startswith("ray_") or word in names, word
    assert {json.loads(dashboard.read_text())["uid"] for dashboard in DASHBOARDS} == {
        f"dap-{dashboard.stem}" for dashboard in DASHBOARDS
    }


@needs_prometheus
def test_the_config_is_one():
    done = subprocess.run(["promtool", "check", "config", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A server that has scraped something from its start on."""

    def __init__(self, port: int, since_s: float) -> None:
        self.url, self.since_s = f"http://127.0.0.1:{port}/api/v1", since_s

    def series(self, query: str) -> list[dict]:
        """What a query gives over all of the time, without series that have no number."""
        span = {"start": self.since_s, "end": time.time(), "step": 2}
        asked = urllib.parse.urlencode({"query": query.replace("$__rate_interval", "30s"), **span})
        with urllib.request.urlopen(f"{self.url}/query_range?{asked}", timeout=30) as response:
            found = json.loads(response.read())["data"]["result"]
        return [series for series in found if any(math.isfinite(float(value)) for _, value in series["values"])]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory) -> Iterator[tuple[Prometheus, RunDir]]:
    """A run on Ray with all kinds of steps, scraped while it ran."""
    folder, port, own_port = tmp_path_factory.mktemp("scraped"), free_port(), free_port()
    recipe = RECIPE.replace("executor: in-process", "executor: ray").replace("panoramas: 8", "panoramas: 64")
    recipe = recipe.replace("validation_share: 0.0", "validation_share: 0.3", 1).replace("steps: 1,", "steps: 20,")
    (folder / "recipe.yaml").write_text(recipe)
    config = yaml.safe_load(CONFIG.read_text())
    config["global"]["scrape_interval"] = "1s"
    config["scrape_configs"] = [{"job_name": "dap", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "tsdb"}
    options["web.listen-address"] = f"127.0.0.1:{own_port}"
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        started_s, videos = time.time(), write_videos(folder / "videos")
        run = [sys.executable, "-m", "dap_engine.jobs", "run", folder / "recipe.yaml", "--run-dir", folder / "run"]
        done = subprocess.run(
            [*run, "--set", f"videos={videos}", "--metrics-port", str(port)],
            env={**os.environ, "RAY_metrics_report_interval_ms": "500"},  # instead of every 10 s
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield Prometheus(own_port, started_s), RunDir(str(folder / "run"))
    finally:
        server.terminate()
        server.wait(30)


@needs_prometheus
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_every_panel_has_data(scraped, dashboard):
    prometheus, _ = scraped
    empty = [title for title, query in queries(dashboard).items() if not prometheus.series(query)]
    assert empty == []


@needs_prometheus
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_figures_are_those_of_the_run(scraped):
    prometheus, run = scraped
    frames = run.receipts("frames")
    (counted,) = prometheus.series('sum(ray_dap_samples_total{stage="extract",direction="out"})')
    assert max(float(value) for _, value in counted["values"]) == frames.samples[1]
    dropped = {it["metric"]["code"] for it in prometheus.series('ray_dap_drops_total{stage="extract"}')}
    assert dropped == set(frames.drops)
    barriers = {it["metric"]["stage"] for it in prometheus.series("ray_dap_running")}
    assert {"plan", "labeler-1", "pack-selected", "select-1", "extract", "label-1"} <= barriers
    (left,) = prometheus.series('ray_dap_shards_left{stage="label-1"}')
    assert float(left["values"][-1][1]) == 0
    steps = {it["metric"]["model"]: float(it["values"][-1][1]) for it in prometheus.series("ray_dap_training_step")}
    assert steps["labeler-1"] == 20
    assert 0 < steps["labeler-2"] <= 20  # the last thing of the run: Ray may be gone before it has said all
