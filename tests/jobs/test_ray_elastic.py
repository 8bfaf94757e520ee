"""Training on a Ray cluster that loses a node for good: it goes on with fewer workers, to the same weights."""

import csv
import os
import subprocess
import sys

import pytest
import yaml

from dap_engine.jobs.__main__ import main
from tests.conftest import REPOSITORY
from tests.engine.cluster import Nodes, below
from tests.jobs.packed import HEIGHT, TINY, pack_rooms
from tests.stages.training.test_ranks import largest_difference, weights

STEPS = 40
CONFIG = {
    "training": {"steps": STEPS, "backbone_lr": 3e-3, "decoder_lr": 3e-3},
    "network": {"config": TINY},
    "batches": {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0},
    "hardware": {"accelerator": "cpu", "precision": "64-true"},
    "checkpoint_every": 5,
    "validate_every": STEPS,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_goes_for_good_costs_the_steps_since_the_last_checkpoint(tmp_path):
    """Three workers share a batch of 4 unevenly, two evenly."""
    data = tmp_path / pack_rooms(tmp_path, {"train-000000": 8, "val-000000": 3})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["train", str(tmp_path / "config.yaml"), "--data", str(data)]
    assert main([*words, "--out", str(tmp_path / "alone")]) == 0
    elastic = ["--set", "hardware.workers={min: 2, max: 3}", "--out", str(tmp_path / "elastic")]
    nodes, said = Nodes(0, [1, 1, 1]), []
    try:
        training = subprocess.Popen(
            [sys.executable, "-m", "dap_engine.jobs", *words, *elastic],
            cwd=REPOSITORY,
            env={**os.environ, **nodes.environment, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert training.stderr
        for line in training.stderr:
            said.append(line)
            if line.startswith("step 8/") and (node := nodes.raylets()[2]).alive:
                for process in [*below(node), node]:
                    process.kill()
        assert training.wait(60) == 0, "".join(said)
    finally:
        nodes.close()
    assert any("3 ranks share batches of 4 unevenly" in line for line in said)
    assert not nodes.raylets()[2].alive
    assert "step 6/40" in {line.split(":")[0] for line in said[[line[:7] for line in said].index("step 8/") + 1 :]}
    assert largest_difference(weights(tmp_path / "alone"), weights(tmp_path / "elastic")) < 1e-9
    rows = list(csv.DictReader((tmp_path / "elastic" / "training" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
