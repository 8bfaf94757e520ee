"""Commands on a run with a step that is not ours: where its module is, after an edit, and where it is not."""

import json
import sys
from pathlib import Path

import pytest

from dap_engine.jobs.__main__ import main
from tests.own_modules import begin_anew, folder  # noqa: F401 - a fixture

MODULE = """
from dataclasses import dataclass

import pyarrow as pa

from dap_engine.engine import ParquetColumn, Row, Sample, SourceStage

NUMBER = pa.schema([("number", pa.int64())])


@dataclass
class Numbers(SourceStage):
    name = "numbers"
    writes = ParquetColumn("numbers", NUMBER)

    def shards(self):
        return ["0000", "0001"]

    def source(self, shard):
        return (Sample(f"key-{shard}-{number}", {}) for number in range(4))

    def process(self, batch):
        for sample in batch:
            yield Row(sample.key, {"number": int(sample.key[-1])})
"""
ODD = """
from dap_engine.engine import Drop, ParquetColumn, Row, stage
import pyarrow as pa


@stage(reads=["numbers"], writes=ParquetColumn("odd", pa.schema([("number", pa.int64())])))
def odd(samples):
    for sample in samples:
        number = sample["numbers"]["number"]
        yield Row(sample.key, {"number": number}) if number % 2 else Drop(sample.key, "even")
"""
PIPELINED = """
from dataclasses import dataclass
from threading import current_thread, main_thread

import pyarrow as pa

from dap_engine.engine import Drop, ParquetColumn, PipelinedStage, Row


@dataclass
class Odd(PipelinedStage):
    name = "odd"
    reads = ("numbers",)
    writes = ParquetColumn("odd", pa.schema([("number", pa.int64())]))
    batch_size: int = 2

    def decode(self, sample):
        assert current_thread() is not main_thread()
        return sample["numbers"]["number"]

    def predict(self, decoded):
        assert current_thread() is main_thread()
        return decoded

    def encode(self, sample, result):
        assert current_thread() is not main_thread()
        return Row(sample.key, {"number": result}) if result % 2 else Drop(sample.key, "even")
"""
RECIPE = """
executor: in-process
steps:
  numbers: {step: "counting:Numbers"}
  odd: {step: "oddity:odd"}
"""


@pytest.fixture
def project(folder, capsys) -> Path:  # noqa: F811
    """A folder with two modules, a recipe, and a run of it."""
    (folder / "counting.py").write_text(MODULE)
    (folder / "oddity.py").write_text(ODD)
    (folder / "recipe.yaml").write_text(RECIPE)
    assert dap("run", "recipe.yaml", "--run-dir", "run") == 0
    capsys.readouterr()
    return folder


def dap(*arguments: str) -> int:
    """One command, as in a process of its own."""
    begin_anew([name for name in ("counting", "oddity", "pipelined") if name in sys.modules])
    return main(list(arguments))


def test_an_edit_runs_the_step_again_and_no_other(project, capsys):
    assert dap("run", "recipe.yaml", "--run-dir", "run") == 0
    assert "up to date: nothing to do" in capsys.readouterr().err
    with (project / "oddity.py").open("a") as file:
        file.write("# a remark\n")
    assert dap("plan", "recipe.yaml", "--run-dir", "run", "--json") == 0
    reasons = [step["reasons"] for step in json.loads(capsys.readouterr().out)["steps"]]
    assert reasons == [{}, {"source oddity changed": 2}]
    assert dap("status", "--run-dir", "run", "--json") == 0
    done = {name: column["shards_done"] for name, column in json.loads(capsys.readouterr().out)["columns"].items()}
    assert done == {"numbers": 2, "odd": 0}
    assert dap("run", "recipe.yaml", "--run-dir", "run") == 0
    assert "odd: 2 of 2 to do (source oddity changed)" in capsys.readouterr().err


def test_a_pipelined_stage_of_one_s_own_runs_in_threads_to_the_same_rows(project, capsys):
    (project / "pipelined.py").write_text(PIPELINED)
    (project / "recipe.yaml").write_text(RECIPE.replace("oddity:odd", "pipelined:Odd"))
    assert dap("run", "recipe.yaml", "--run-dir", "other") == 0
    capsys.readouterr()
    outputs = [
        [json.loads(file.read_text())["output"]["sha256"] for file in sorted((project / run).glob("receipts/odd/*"))]
        for run in ("run", "other")
    ]
    assert len(outputs[0]) == 2
    assert outputs[0] == outputs[1]


def test_what_a_module_prints_is_no_part_of_a_document(project, capsys):
    with (project / "oddity.py").open("a") as file:
        file.write("print('hello')\n")
    assert dap("status", "--run-dir", "run", "--json") == 0
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)["columns"]) == {"numbers", "odd"}
    assert "hello" in printed.err


def test_verify_and_retry(project, capsys):
    assert dap("verify", "--run-dir", "run") == 0
    assert "ok: numbers 8, odd 4" in capsys.readouterr().out
    assert dap("retry", "--run-dir", "run", "--column", "odd") == 0
    assert capsys.readouterr().err == "nothing to put back in odd; left alone: 4 even (--code takes them)\n"
    assert dap("retry", "--run-dir", "run", "--column", "odd", "--code", "nonsense") == 2
    assert capsys.readouterr().err == "dap retry: no drop of odd has the code 'nonsense'; there are ['even']\n"
    (project / "oddity.py").write_text(ODD.replace("% 2", "% 2 or number"))
    assert dap("retry", "--run-dir", "run", "--column", "odd", "--code", "even") == 0
    assert "put back in odd: drops of 2 shards" in capsys.readouterr().err
    assert dap("verify", "--run-dir", "run") == 0
    assert "ok: numbers 8, odd 6" in capsys.readouterr().out


def test_without_the_module_one_line_says_so(project, capsys, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(project)])
    run_dir = ["--run-dir", str(project / "run")]
    missing = "step 'numbers': no module 'counting', neither in"
    commands = ((["status"], 0), (["retry", "--column", "odd"], 2), (["run", str(project / "recipe.yaml")], 2))
    for command, code in commands:
        assert dap(*command, *run_dir) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert missing in line
    assert dap("verify", *run_dir) == 1
    problem, count = capsys.readouterr().out.splitlines()
    assert f"/run.yaml: {missing}" in problem
    assert count == "1 problems"


def test_a_module_that_became_wrong_stops_before_any_work(project, capsys):
    (project / "oddity.py").write_text("import nosuchpackage\n")
    assert dap("run", "recipe.yaml", "--run-dir", "other") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "step 'odd': module 'oddity' cannot be imported: ModuleNotFoundError: No module named 'nosuchpackage'" in line
    )
    assert not (project / "other").exists()
