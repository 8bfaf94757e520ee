"""The engine from Python: what is built of objects is what the command line reads and resumes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from dap_engine.jobs import Budget, Node, Pool, RecipeError, Run, UnfinishedError, make_recipe, run
from dap_engine.jobs.__main__ import main
from dap_engine.stages import Film
from tests.engine.steps import Add, Count, Times, Total

COUNT, TIMES = Node("count", Count(total_shards=2)), Node("times", Times(factor=3, drop_every=4))


def test_objects_become_the_recipe_that_a_person_would_write():
    times = Node("times", Times(factor=3), Pool(num_cpus=0.5), budget=Budget(max_drops=2))
    recipe = make_recipe(Node("film", Film(videos=1)), COUNT, times, name="mine", executor="in-process")
    assert yaml.safe_load(recipe.to_yaml()) == {
        "name": "mine",
        "executor": "in-process",
        "steps": {
            "film": {"step": "film", "videos": 1},
            "count": {"step": "tests.engine.steps:Count", "total_shards": 2},
            "times": {
                "step": "tests.engine.steps:Times",
                "factor": 3,
                "pool": {"num_cpus": 0.5},
                "budget": {"max_drops": 2},
            },
        },
    }
    assert recipe.nodes == (Node("film", Film(videos=1)), COUNT, times)


def test_a_run_its_status_and_its_columns(tmp_path, capsys):
    place = str(tmp_path / "run")
    done = run(make_recipe(COUNT, TIMES, executor="in-process"), place)
    status = done.status()["products"]
    assert (status.shards_done, status.samples_out, status.drops) == (2, 6, {"multiple": 2})
    pairs = [(s["numbers"]["json"]["number"], s["products"]["product"]) for s in done.samples("numbers", "products")]
    assert pairs == [(n, 3 * n) for n in range(8) if n % 4]
    assert [sample.key for sample in Run(place).samples("numbers")] == [f"n{number:06d}" for number in range(8)]
    capsys.readouterr()
    assert main(["run", f"{place}/run.yaml", "--run-dir", place]) == 0
    assert "up to date: nothing to do" in capsys.readouterr().err


def test_a_run_stays_where_it_was_when_the_folder_changes(tmp_path, monkeypatch):
    run(make_recipe(COUNT, executor="in-process"), str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    there = Run("run")
    monkeypatch.chdir("/")
    assert len(list(there.samples("numbers"))) == 8
    with pytest.raises(ValueError, match="samples of which columns"):
        next(there.samples())
    with pytest.raises(ValueError, match="has nothing in a column 'number'; it has numbers"):
        next(there.samples("number"))
    with pytest.raises(ValueError, match="has nothing in a column 'numbers'; it has nothing"):
        next(Run("nowhere").samples("numbers"))


def test_only_and_until(tmp_path):
    nodes = (COUNT, TIMES, Node("add", Add()), Node("total", Total()))
    recipe = make_recipe(*nodes, executor="in-process")
    assert set(run(recipe, str(tmp_path / "a"), until="times").status()) >= {"numbers", "products"}
    assert run(recipe, str(tmp_path / "a"), only=["add"]).status()["sums"].shards_done == 2
    assert run(recipe, str(tmp_path / "a")).status()["total"].shards_done == 1


def test_another_recipe_removes_nothing(tmp_path):
    place = str(tmp_path / "run")
    run(make_recipe(COUNT, TIMES, executor="in-process"), place)
    fewer = Node("count", Count(total_shards=1))
    with pytest.raises(ValueError, match="is of the recipe 'run', and 1 of its outputs might be removed: give another"):
        run(make_recipe(fewer, name="other", executor="in-process"), place)
    assert len(Run(place).status()["numbers"].failed) == 0
    assert len(list(Run(place).samples("numbers"))) == 8
    run(make_recipe(fewer, executor="in-process"), place)
    assert len(list(Run(place).samples("numbers"))) == 4


def test_what_fails_is_an_error_and_the_rest_is_done(tmp_path):
    nodes = (COUNT, Node("times", Times(raise_at=[0, 1, 2, 3])))
    recipe, place = make_recipe(*nodes, executor="in-process"), str(tmp_path / "run")
    with pytest.raises(UnfinishedError, match="1 unfinished, first times 0000: RuntimeError: cannot multiply 0"):
        run(recipe, place)
    assert Run(place).status()["products"].failed == ["0000"]


def test_a_passed_budget_is_an_error(tmp_path):
    nodes = (COUNT, Node("times", Times(drop_every=1), budget=Budget(max_drops=1)))
    with pytest.raises(UnfinishedError, match="stopped: times: 4 drops, more than max_drops 1"):
        run(make_recipe(*nodes, executor="in-process"), str(tmp_path / "run"))


def test_what_no_other_process_could_read_is_refused(monkeypatch):
    @dataclass
    class Local(Times):
        pass

    with pytest.raises(RecipeError, match="Local can be found by no other process: write the class into a module"):
        make_recipe(Node("local", Local()))
    monkeypatch.setattr(Times, "__module__", "__main__")
    with pytest.raises(RecipeError, match="__main__:Times can be found by no other process"):
        make_recipe(TIMES)


def test_a_setting_that_a_recipe_cannot_hold_is_refused():
    with pytest.raises(RecipeError, match="a setting is no plain value"):
        make_recipe(Node("count", Count(log=Path("log"))))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="two steps have the same name"):
        make_recipe(COUNT, COUNT)
