"""What ends a run is said at once: the last line of the exception, and a file of the run that holds all of it."""

import os
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

RECIPE = """
name: small
executor: ray
steps:
  film: {step: film, videos: 4, height: 32, seconds: 1, fps: 2, pool: {num_cpus: 0.5}}
  plan: {step: plan, videos: "run:footage", videos_per_shard: 1}
  extract: {step: extract, height: 32, every_s: 0.5, pool: {num_cpus: 0.5}}
  label: {step: label, pool: {num_cpus: 0.5}}
"""

WITHOUT_A_MODULE = """
import os, sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["WITHOUT"]:
            raise ModuleNotFoundError(f"No module named {name!r}")

if any(os.environ["WHERE"] in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Without())
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Takes a module away from all processes whose command line has a word in it."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(WITHOUT_A_MODULE)

    def take(module: str, where: str) -> None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")]))
        monkeypatch.setenv("WITHOUT", module)
        monkeypatch.setenv("WHERE", where)

    return take


def whole_error(said: str, line: str) -> str:
    """What lies in the file that is named behind the last line of an error."""
    found = re.search(re.escape(line) + r".* \((\S+)\)$", said, re.MULTILINE)
    assert found, said
    return Path(found[1]).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "where"),
    [
        ("simplejpeg", "engine.child_process"),
        ("dap_engine.engine.child_process", "default_worker.py"),
        ("av", "models.video.child"),
    ],
)
def test_a_package_that_is_missing_on_a_node(dap, recipe, tmp_path, without, module, where):
    without(module, where)
    done = dap("run", recipe, "--run-dir", tmp_path / "run")
    assert done.returncode == 1, done.stderr
    line = f"ModuleNotFoundError: No module named {module!r}"
    whole = whole_error(done.stderr, line)
    assert line in whole
    assert "in find_spec" in whole  # where it was raised


@pytest.mark.parametrize("executor", [pytest.param("ray", marks=pytest.mark.slow), "in-process"])
def test_weights_that_lack_a_tensor(dap_here, recipe, tiny_model, tmp_path, executor):
    """The file is whole, so only loading it strictly shows that it does not fit."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    tensors = load_file(tiny_model / "model.safetensors")
    del tensors[min(tensors)]
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    settings = ["--set", f"label.model={tmp_path / 'model'}", "--set", f"executor={executor}"]
    done = dap_here("run", recipe, "--run-dir", tmp_path / "run", *settings)
    assert done.returncode == 1, done.stderr
    assert "in setup" in whole_error(done.stderr, "failed: label ")
    if executor == "in-process":
        assert len(list((tmp_path / "run" / "receipts" / "labels-1").iterdir())) == 1  # not tried for every shard


@pytest.mark.slow
def test_a_probe_names_the_log(dap, recipe, tmp_path, without):
    without("simplejpeg", "engine.child_process")
    settings = ["--run-dir", tmp_path / "run", "--set", "executor=in-process"]
    assert dap("run", recipe, *settings, "--until", "plan").returncode == 0
    done = dap("plan", recipe, *settings, "--until", "extract", "--probe")
    assert done.returncode == 0, done.stderr
    assert "Traceback" in whole_error(
        done.stdout, "not probed: extract: ModuleNotFoundError: No module named 'simplejpeg'"
    )
