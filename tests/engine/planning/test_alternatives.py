"""A map stage that takes its shards from several columns: each shard is in one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.plan import Planner
from dap_engine.engine.planning.recipe import RecipeError, load_recipe
from dap_engine.engine.records.column import Column, ParquetColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.retry_marks import RetryMark, mark_for_retry
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import SourceStage, Stage
from dap_engine.engine.verification.verify import verify_run
from tests.engine.steps import STEPS


@dataclass
class Letters(SourceStage):
    """Shards `<prefix>0000`, … of two letters each."""

    name = "letters"
    total_shards: int = 2
    prefix: str = "letters-"
    mark: str = "a"

    @property
    def writes(self) -> Column:
        return ParquetColumn("letters", pa.schema([("letter", pa.string())]))

    def shards(self) -> Sequence[str]:
        return [f"{self.prefix}{i:04d}" for i in range(self.total_shards)]

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(f"l{shard[-4:]}{i}", {}) for i in range(2))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        return (Row(sample.key, {"letter": self.mark}) for sample in batch)


@dataclass
class Name(Stage):
    """Says of which of its columns a sample is, and what `after` says of it, if it is given."""

    name = "name"
    of: str = "numbers letters"
    after: str = ""
    to: str = "names"
    drops: bool = False

    @property
    def alternatives(self) -> tuple[str, ...]:
        return tuple(self.of.split())

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.alternatives, *self.after.split())

    def settings(self):
        return {name: value for name, value in super().settings().items() if name != "of"}

    @property
    def writes(self) -> Column:
        return ParquetColumn(self.to, pa.schema([("name", pa.string())]))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            (column,) = set(sample.columns) & set(self.alternatives)
            after = "".join(sample[column]["name"] for column in self.after.split())
            row = Row(sample.key, {"name": f"{column} {after}".strip()})
            yield Drop(sample.key, "unwanted", retryable=True) if self.drops and column == "letters" else row


RECIPE = """
name: names
executor: in-process
steps:
  letters: {step: letters}
  count: {step: count, total_shards: 2, per_shard: 1}
  first: {step: name, to: names}
  second: {step: name, after: names, to: more}
"""
KINDS = {**STEPS, "letters": Letters, "name": Name}


def graph_of(*overrides, recipe=RECIPE):
    return build_graph(load_recipe(recipe, KINDS, overrides).nodes)


def run(place, *overrides, recipe=RECIPE):
    graph = graph_of(*overrides, recipe=recipe)
    return Runner(graph, RunDir(place), InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)


def names(place, column="more"):
    run = RunDir(place)
    return {row.key: row.fields["name"] for receipt in run.receipts(column).values() for row in run.rows(receipt)}


def test_every_shard_of_every_column_is_taken_with_the_one_input_that_it_has(place):
    assert run(place).worked == 12
    assert names(place) == {
        **dict.fromkeys(["n000000", "n000001"], "numbers numbers"),
        **dict.fromkeys(["l00000", "l00001", "l00010", "l00011"], "letters letters"),
    }
    inputs = {shard: set(receipt.basis.inputs) for shard, receipt in RunDir(place).receipts("more").items()}
    assert inputs == {
        "0000": {"numbers", "names"},
        "0001": {"numbers", "names"},
        "letters-0000": {"letters", "names"},
        "letters-0001": {"letters", "names"},
    }
    assert run(place).worked == 0
    assert verify_run(RunDir(place), graph_of()).problems == []


def test_another_column_adds_its_shards_and_leaves_the_others_as_they_are(tmp_path):
    alone = ("first.of=numbers", "second.of=numbers")
    run(str(tmp_path), *alone)
    before = dict(RunDir(str(tmp_path)).receipts("more"))
    assert run(str(tmp_path)).worked == 4
    after = RunDir(str(tmp_path)).receipts("more")
    assert {shard: after[shard] for shard in before} == before
    run(str(tmp_path), *alone)
    assert dict(RunDir(str(tmp_path)).receipts("more")) == before  # shards of a column that is read no more are gone
    assert verify_run(RunDir(str(tmp_path)), graph_of(*alone)).problems == []


def test_a_change_in_one_column_runs_what_follows_it_alone(tmp_path):
    run(str(tmp_path))
    plans = Planner(graph_of("letters.mark=b"), RunDir(str(tmp_path))).plan(graph_of("letters.mark=b").nodes)
    assert {plan.node.name: dict(plan.reasons) for plan in plans if not plan.done} == {
        "letters": {"setting mark changed": 2},
        "first": {"follows letters": 2},
        "second": {"follows letters": 2},
    }
    assert run(str(tmp_path), "letters.mark=b").worked == 2 + 2 + 2


def test_chains_share_what_they_have_and_shards_pass_the_stages_that_have_them():
    graph = graph_of()
    assert [[node.name for node in chain] for chain in graph.chains(graph.nodes)] == [
        ["letters"],
        ["count", "first", "second"],
    ]


def test_what_is_dropped_of_one_column_takes_nothing_of_another_along(tmp_path):
    assert not run(str(tmp_path), "first.drops=true").unfinished
    assert set(names(str(tmp_path))) == {"n000000", "n000001"}
    assert RunDir(str(tmp_path)).receipts("names").drops == {"unwanted": 4}
    assert verify_run(RunDir(str(tmp_path)), graph_of("first.drops=true")).problems == []
    mark_for_retry(RunDir(str(tmp_path)), "names", "letters-0001", RetryMark.of("unwanted"))
    plans = Planner(graph_of("first.drops=true"), RunDir(str(tmp_path))).plan(graph_of("first.drops=true").nodes)
    assert {plan.node.name: plan.pending for plan in plans if not plan.done}["first"] == ("letters-0001",)
    assert run(str(tmp_path), "first.drops=true").worked == 1


def test_two_columns_with_a_shard_of_one_name_are_refused_before_any_work(tmp_path):
    with pytest.raises(RecipeError, match="step 'first': both 'count' and 'letters' have a shard '0000'"):
        run(str(tmp_path), "letters.prefix=''")
    assert RunDir(str(tmp_path)).columns() == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("second.of=numbers names", "second.after=''"), "'numbers' and 'names' have the same shards"),
        (("first.of=numbers",), "reads 'names' beside 'letters', but step 'first' makes none of that"),
        (("first.of=numbers figures",), "reads 'figures', which no step of the recipe writes"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(overrides, message):
    with pytest.raises(RecipeError, match=message):
        graph_of(*overrides)
