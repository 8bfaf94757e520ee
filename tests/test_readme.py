"""What the README shows of steps of one's own is run as it stands there, as a user would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dap_engine.engine import Row
from dap_engine.engine.rundir.rundir import RunDir
from tests.conftest import REPOSITORY
from tests.jobs.conftest import dap, footage  # noqa: F401 - fixtures

pytestmark = pytest.mark.timeout(600)  # several programs, one after the other
SMALL = ["--set", "extract.height=96", "--set", "extract.every_s=1.0"]


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a language below a heading, in their order."""
    text = (REPOSITORY / "README.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [code for named, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M) if named == language]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the README's step in a module, the one made of a function, and the recipe."""
    stage, function = blocks("A step of your own", "python")
    assert len(stage.splitlines()) <= 20
    (tmp_path / "bright.py").write_text(stage)
    (tmp_path / "sizes.py").write_text(function)
    (tmp_path / "bright.yaml").write_text(*blocks("A step of your own", "yaml"))
    return tmp_path


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, with the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_a_step_of_your_own(folder, footage):  # noqa: F811
    first, status = (line.split() for line in blocks("A step of your own", "")[0].splitlines())
    first = [word.replace("videos=DIR", f"videos={footage}") for word in first]
    done = run(folder, *first, *SMALL)
    assert done.returncode == 0, done.stderr
    means = [row.fields["mean"] for row in rows(folder, "brightness")]
    assert len(means) == len(rows(folder, "frames")) > 0
    assert "brightness" in run(folder, *status).stdout
    threshold = max(means) - 0.01
    darker = ["--set", "executor=in-process", "--set", f"bright.threshold={threshold}"]
    assert "(setting threshold changed)" in run(folder, *first, *SMALL, *darker).stderr
    kept = [row.fields["mean"] for row in rows(folder, "brightness")]
    assert kept == [mean for mean in means if mean >= threshold] != []
    key = rows(folder, "frames")[0].key
    assert key in run(folder, "dap", "lineage", "--run-dir", "runs/bright", key).stdout


@pytest.mark.slow
def test_a_function_as_a_stage(folder, footage):  # noqa: F811
    recipe = (folder / "bright.yaml").read_text()
    step = '{step: "sizes:sizes", unit_bytes: 1}'
    (folder / "sizes.yaml").write_text(re.sub("bright: {.*}", f"sizes: {step}", recipe))
    settings = ["--set", f"videos={footage}", *SMALL, "--set", "executor=in-process"]
    done = run(folder, "dap", "run", "sizes.yaml", "--run-dir", "runs/bright", *settings)
    assert done.returncode == 0, done.stderr
    sizes = {row.key: row.fields["kilobytes"] for row in rows(folder, "sizes")}
    assert sizes == {row.key: len(row.fields["jpg"]) for row in rows(folder, "frames")} != {}


@pytest.mark.slow
def test_the_same_from_python(folder):
    (code,) = blocks("From Python", "python")
    assert len(code.splitlines()) <= 15
    (folder / "notebook.py").write_text(code)
    done = run(folder, sys.executable, "notebook.py")
    assert done.returncode == 0, done.stderr
    status, *samples = done.stdout.splitlines()
    assert f"samples_out={len(samples)}" in status
    assert len(samples) > 0
    resumed = run(folder, "dap", "run", "runs/notebook/run.yaml", "--run-dir", "runs/notebook")
    assert "up to date: nothing to do" in resumed.stderr


def rows(folder: Path, column: str) -> list[Row]:
    directory = RunDir(str(folder / "runs" / "bright"))
    return [row for receipt in directory.receipts(column).values() for row in directory.rows(receipt)]
