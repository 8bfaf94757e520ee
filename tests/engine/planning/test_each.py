"""`each`: one step written down, several made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import RecipeError, load_recipe
from dap_engine.engine.records.column import Column, FolderColumn
from dap_engine.engine.steps.asset_settings import AssetUri
from dap_engine.engine.steps.barrier import Barrier, BarrierContext


@dataclass
class Fit(Barrier):
    name = "fit"
    model: str
    rate: float = 0.0
    seed: int = 0
    note: str = ""
    models: dict[str, AssetUri] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def writes(self) -> Column:
        return FolderColumn("models")

    @property
    def produces(self) -> str:
        return f"models/{self.model}"

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.model]

    def run(self, context: BarrierContext) -> None: ...


RECIPE = """
steps:
  compare: {step: fit, model: best, models: "${all.student}"}
  student:
    step: fit
    each: {rate: {low: 0.1, high: 0.5}, seed: [1, 2]}
    model: student-${each.rate}-${each.seed}
    rate: "${each.rate}"
    seed: "${each.seed}"
    note: at ${each.rate} of ${each.seed}
  last: {step: fit, model: last, models: "${all.compare}"}
"""


def load(text: str = RECIPE, *overrides: str):
    return load_recipe(text, {"fit": Fit}, overrides)


def test_several_steps_together_are_one_mapping():
    recipe = RECIPE.replace('"${all.compare}"', '"${all.student} ${all.compare}"')
    last = {node.name: node.step for node in load(recipe).nodes}["last"]
    assert list(last.models) == [f"student-{rate}-{seed}" for rate in ("low", "high") for seed in (1, 2)] + ["compare"]
    with pytest.raises(RecipeError, match="'nobody' is no step"):
        load(RECIPE.replace('"${all.compare}"', '"${all.student} ${all.nobody}"'))


def test_a_step_for_every_combination():
    steps = {node.name: node.step for node in load().nodes}
    assert list(steps) == [
        "compare",
        *("student-low-1", "student-low-2", "student-high-1", "student-high-2"),
        "last",
    ]
    assert steps["student-high-2"] == Fit("student-high-2", rate=0.5, seed=2, note="at high of 2")


def test_a_later_step_names_all_of_them():
    steps = {node.name: node.step for node in load().nodes}
    names = ["student-low-1", "student-low-2", "student-high-1", "student-high-2"]
    assert steps["compare"].models == {name: f"run:models/{name}" for name in names}


def test_the_saved_recipe_says_the_same_without_each():
    recipe = load(RECIPE.replace("${all.compare}", "${all.student}"))
    assert "each" not in recipe.to_yaml()
    assert [node.step for node in load(recipe.to_yaml()).nodes] == [node.step for node in recipe.nodes]


def test_values_are_overridden_and_the_family_is_selected_by_its_name():
    text = RECIPE.replace("${all.compare}", "${all.student}")
    graph = build_graph(load(text, "student.each.seed=[7]", "student.rate=2.0").nodes)
    assert [node.name for node in graph.select(only=["student"])] == ["student-low-7", "student-high-7"]
    assert [node.name for node in graph.select(until="student-low-7")] == ["student-low-7"]
    assert len(graph.select(until="student")) == 2
    assert {node.step.rate for node in graph.select(only=["student"])} == {2.0}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{step: fit, model: a, each: []}", "each needs names with lists"),
        ("{step: fit, model: a, each: {seed: 3}}", "each.seed needs values"),
        ("{step: fit, model: a, each: {seed: []}}", "each.seed needs values"),
        ("{step: fit, model: a, each: {seed: [1, 1]}}", "each.seed names a value twice"),
        ("{step: fit, model: a, each: {rate: [0.1]}}", "each.rate needs values that are words"),
        ("{step: fit, model: 'a-${each.rate}', each: {seed: [1]}}", "each has no 'rate'"),
        ("{step: fit, model: 'a-${each.rate}'}", "each has no 'rate'"),
        ("{step: fit, model: a, models: '${all.nothing}'}", "'nothing' is no step"),
    ],
)
def test_wrong_ones_are_one_clear_line(step, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load(f"steps: {{one: {step}}}")
    assert "\n" not in str(caught.value)


def test_two_steps_of_one_name_are_refused():
    text = "steps: {a: {step: fit, model: 'a-${each.n}', each: {n: [1]}}, a-1: {step: fit, model: b}}"
    with pytest.raises(RecipeError, match="two steps would be called 'a-1'"):
        load(text)
