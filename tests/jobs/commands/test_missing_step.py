"""Commands where a step of one's own is not at hand, or where its folder holds a module of an installed one's name."""

import json
import subprocess
import sys

from dap_engine.jobs.__main__ import main

SOURCE = """
from dataclasses import dataclass

from tests.engine.steps import Count


@dataclass
class Mine(Count):
    pass
"""
RECIPE = 'name: mine\nexecutor: in-process\nsteps: {count: {step: "countings:Mine", total_shards: 2}}\n'


def test_status_of_a_step_that_is_not_there_is_that_of_its_receipts(tmp_path, monkeypatch, dap, dap_here):
    (tmp_path / "countings.py").write_text(SOURCE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "run"
    assert main(["run", str(tmp_path / "recipe.yaml"), "--run-dir", str(place)]) == 0
    known = json.loads(dap_here("status", "--run-dir", place, "--json").stdout)["columns"]
    done = dap("status", "--run-dir", place, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["columns"] == {"numbers": known["numbers"] | {"shards_total": None}}
    assert "step 'count': no module 'countings', neither in" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_module_of_the_folder_stands_in_for_an_installed_one(tmp_path):
    (tmp_path / "yaml.py").write_text("raise RuntimeError('the wrong one')")
    command = [sys.executable, "-m", "dap_engine.jobs", "plan", "demo", "--run-dir", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
