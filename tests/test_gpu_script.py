"""`python -m tests.gpu` at tiny sizes on a CPU, without what a GPU machine need not have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.sections import measure

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_NEEDED = {"ray", "av", "decord", "trimesh", "embreex", "moto", "OpenEXR", "py360convert", "qwen_vl_utils"}
WITHOUT = f"""
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_NEEDED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.path.insert(0, ".")
runpy.run_module("tests.gpu", run_name="__main__", alter_sys=True)
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT, *arguments]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=REPOSITORY, env=hidden, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["label", "score"], marks=pytest.mark.slow),
        pytest.param(["dense", "forward", "steps", "losses", "loader", "tag", "gpu-tests"], marks=pytest.mark.slow),
    ],
)
def test_every_section_measures_something(tmp_path, kinds):
    done = run("--tiny", "--out", str(tmp_path), *kinds)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert list(sections) == kinds
    assert all(section["measurements"] for section in sections.values())
    if "label" in kinds:
        (label, parts) = sections["label"]["measurements"]
        assert label["of the bare rate"] > 0
        assert parts["ms quantise and PNG"] > 0
    if "loader" in kinds:
        assert 0 <= sections["loader"]["measurements"][1]["of the time waiting"] < 1
        assert sections["gpu-tests"]["measurements"][0]["collected"] > 0
    table = (tmp_path / "gpu.md").read_text().splitlines()
    rows = [line for line in table if line.startswith("| ")]
    assert len(rows) == 2 + sum(len(section["measurements"]) for section in sections.values())


@pytest.mark.slow
def test_the_last_section_compiles_the_network_whole(tmp_path):
    done = run("--tiny", "--out", str(tmp_path), "compiled-whole")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "s to compile" in (tmp_path / "gpu.md").read_text()


def test_what_does_not_fit_into_the_time_is_left_out_and_said(tmp_path):
    assert measure(["dense", "score"], tmp_path, 0.0, tiny=True) == 0
    assert "| score | left out | no time left |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    done = run()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "sees no CUDA device" in done.stderr
