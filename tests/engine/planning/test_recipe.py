import pytest

from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import RecipeError, load_recipe
from dap_engine.engine.records.column import TarColumn
from tests.engine.steps import RECIPE, STEPS, Count


def load(text: str = RECIPE, *overrides: str):
    return load_recipe(text, STEPS, overrides)


def test_overrides_are_typed_and_saved_resolved():
    recipe = load(RECIPE, "times.factor=5", "times.pool.num_cpus=0.5", "seed=3", "count.total_shards=${seed}")
    steps = {node.name: node for node in recipe.nodes}
    assert (steps["times"].step.factor, steps["times"].pool.num_cpus, steps["count"].step.total_shards) == (5, 0.5, 3)
    again = load(recipe.to_yaml())
    assert again.nodes == recipe.nodes


def test_how_long_nodes_are_waited_for_is_a_setting_of_the_recipe():
    assert load().cluster.wait_s == 0
    assert load(f"cluster: {{wait_s: 900}}\n{RECIPE}").cluster.wait_s == 900
    assert load(RECIPE, "cluster.wait_s=30").cluster.wait_s == 30


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("a: [", (), "not a recipe"),
        ("just text", (), "not a recipe"),
        ("steps: {}", (), "not a recipe"),
        ("!!python/object/apply:os.system ['true']", (), "not a recipe"),
        ("stpes: {a: {step: count}}\nsteps: {a: {step: count}}", (), "unknown setting 'stpes'"),
        ("steps: {a: {step: nosuch}}", (), "no kind of step, nor MODULE:CLASS: 'nosuch'; known are"),
        ("steps: {a: {step: cuont}}", (), "did you mean 'count'"),
        ("steps: {A b: {step: count}}", (), "step name"),
        ("executor: spark\nsteps: {a: {step: count}}", (), "executor 'spark'"),
        (RECIPE, ("times.factor=two",), "step 'times'.*factor"),
        (RECIPE, ("times.factor=",), "step 'times': factor is empty"),
        (RECIPE, ("times.factr=2",), "step 'times': no setting 'factr'; did you mean 'factor'"),
        (RECIPE, ("nosuch.factor=2",), "no step 'nosuch'"),
        (RECIPE, ("tmies.factor=2",), "no step 'tmies'; did you mean 'times'"),
        (RECIPE, ("factor=2",), "no setting at the top"),
        (RECIPE, ("video=there",), "'video' is no setting at the top of a recipe; did you mean 'videos'"),
        (RECIPE, ("times.factor",), "step.key=value"),
        (RECIPE, ("total.pool.num_cpus=2",), "only map stages"),
        (RECIPE, ("times.pool.num_cpu=2",), "step 'times': pool.*num_cpu"),
        (RECIPE, ("times.factor=${nothing}",), "not set at its top"),
        (RECIPE, ("cluster.wait=3",), "cluster: no setting 'wait'; did you mean 'wait_s'"),
        (RECIPE, ("cluster.wait_s=-1",), "wait_s cannot be negative"),
        (f"cluster: 3\n{RECIPE}", (), "cluster"),
    ],
)
def test_wrong_recipes_are_one_clear_line(text, overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load(text, *overrides)
    assert "\n" not in str(caught.value)


def test_order_and_chains_follow_the_columns_not_the_file():
    turned = "steps: {total: {step: total}, add: {step: add}, times: {step: times}, count: {step: count}}"
    graph = build_graph(load(turned).nodes)
    assert [node.name for node in graph.nodes] == ["count", "times", "add", "total"]
    assert [[node.name for node in chain] for chain in graph.chains(graph.nodes)] == [
        ["count", "times", "add"],
        ["total"],
    ]


def test_selection():
    graph = build_graph(load().nodes)
    assert [node.name for node in graph.select(until="times")] == ["count", "times"]
    assert [node.name for node in graph.select(only=["add", "times"])] == ["times", "add"]
    with pytest.raises(RecipeError, match="no step 'nosuch'"):
        graph.select(until="nosuch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: {times: {step: times}}", "reads 'numbers', which no step"),
        ("steps: {a: {step: count}, b: {step: count}}", "both write 'numbers'"),
    ],
)
def test_broken_graphs_are_one_clear_line(text, message):
    with pytest.raises(RecipeError, match=message):
        build_graph(load(text).nodes)


@pytest.mark.parametrize("name", ["receipts", "drops", "logs"])
def test_no_step_writes_into_the_folders_of_the_run(name, monkeypatch):
    monkeypatch.setattr(Count, "writes", TarColumn(name, ("txt", "json")))
    with pytest.raises(RecipeError, match=f"step 'count' would write '{name}', which is the run's own"):
        build_graph(load("steps: {count: {step: count}}").nodes)
