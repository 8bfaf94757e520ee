"""Stages whose parts overlap: the order, the bytes and the isolation of one that does a thing at a time."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pytest

from dap_engine.engine.execution.pipeline import read_ahead
from dap_engine.engine.execution.samples import ShardWork
from dap_engine.engine.records.column import Column, ParquetColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.rundir.retry_marks import RetryMark, mark_for_retry
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.step import PipelinedStage
from tests.engine import poison
from tests.engine.poison import RECIPE, batch_sizes

PARTS = ("decode", "predict", "encode")
PIPELINED = RECIPE.replace("per_shard: 8", "per_shard: 40").replace("step: poison,", "step: poisoned-part,")
SIMPLE = RECIPE.replace("per_shard: 8", "per_shard: 40")


run = partial(poison.run, recipe=PIPELINED)
supervised = partial(poison.supervised, recipe=PIPELINED)


def codes(place):
    return [(drop.key, drop.code) for drop in poison.drops(place)]


def output(place):
    return {shard: receipt.output.sha256 for shard, receipt in RunDir(place).receipts("products").items()}


def test_the_bytes_are_those_of_a_stage_that_does_one_batch_after_another(tmp_path):
    for name, recipe in (("pipelined", PIPELINED), ("simple", SIMPLE)):
        assert run(str(tmp_path / name), recipe=recipe).unfinished == []
    assert output(str(tmp_path / "pipelined")) == output(str(tmp_path / "simple"))


@pytest.mark.parametrize("part", PARTS)
def test_a_sample_that_raises_is_dropped_and_only_its_batch_split(tmp_path, part):
    place = str(tmp_path)
    result = run(place, "poison.raises=[5, 17]", f"poison.part={part}")
    assert result.unfinished == []
    assert codes(place) == [("n000005", "stage_error"), ("n000017", "stage_error")]
    assert batch_sizes(place) == {n: 1 if n // 4 in (1, 4) else 4 for n in range(80) if n not in (5, 17)}


@pytest.mark.parametrize("part", PARTS)
def test_a_stage_that_gets_nothing_through_is_a_bug(tmp_path, part):
    result = run(str(tmp_path), f"poison.raises={list(range(40))}", f"poison.part={part}")
    assert [o.shard for o in result.unfinished if o.status == "failed"] == ["0000", "total"]
    assert "cannot double 0" in RunDir(str(tmp_path)).failures("products")["0000"]


@pytest.mark.parametrize("part", [*(pytest.param(part, marks=pytest.mark.slow) for part in PARTS[:-1]), PARTS[-1]])
def test_a_sample_that_kills_is_found_among_those_in_flight(tmp_path, part):
    place, calm = str(tmp_path / "run"), str(tmp_path / "calm")
    outcome = supervised(place, "poison.kills=[21]", f"poison.part={part}", "poison.limits.attempts=1")
    assert (outcome.status, outcome.samples_out, outcome.drops) == ("done", 39, {"worker_died": 1})
    assert codes(place) == [("n000021", "worker_died")]
    undisturbed = {n: 1 if n // 4 == 5 else 4 for n in range(40) if n != 21}
    assert batch_sizes(place) == undisturbed, "its neighbours are as before"
    mark_for_retry(RunDir(place), "products", "0000", RetryMark.of(None))
    cure = tmp_path / "cure"
    cure.touch()
    supervised(place, "poison.kills=[21]", f"poison.part={part}", f"poison.cure={cure}")
    supervised(calm)
    assert output(place) == output(calm)


@pytest.mark.parametrize("part", ["decode", *(pytest.param(part, marks=pytest.mark.slow) for part in PARTS[1:])])
def test_a_sample_that_hangs_is_found_among_those_in_flight(tmp_path, part):
    outcome = supervised(str(tmp_path), "poison.hangs=[9]", f"poison.part={part}", "poison.limits.sample_s=0.3")
    assert (outcome.status, outcome.samples_out, outcome.drops) == ("done", 39, {"timed_out": 1})
    assert codes(str(tmp_path)) == [("n000009", "timed_out")]
    assert batch_sizes(str(tmp_path)) == {n: 1 if n // 4 == 2 else 4 for n in range(40) if n != 9}


@pytest.mark.parametrize("part", ["encode", *(pytest.param(part, marks=pytest.mark.slow) for part in PARTS[:2])])
def test_one_death_changes_no_byte(tmp_path, part):
    once = ["poison.kills=[6]", f"poison.cure={tmp_path / 'cure'}", "poison.once=true", f"poison.part={part}"]
    outcome = supervised(str(tmp_path / "run"), *once)
    assert (outcome.status, outcome.drops) == ("done", {})
    assert batch_sizes(str(tmp_path / "run")) == dict.fromkeys(range(40), 4)


@dataclass
class Parts(PipelinedStage):
    """Hands the key on from part to part."""

    name = "parts"
    reads = ()
    batch_size: int = 2

    @property
    def writes(self) -> Column:
        return ParquetColumn("parts", pa.schema([]))

    def decode(self, sample: Sample) -> str | Drop:
        return sample.key

    def predict(self, decoded: list[str]) -> list[str | Drop]:
        return decoded

    def encode(self, sample: Sample, result: str) -> Row | Drop:
        assert result == sample.key
        return Row(sample.key, {})


class Written:
    """A writer that keeps keys, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.keys: list[str] = []
        self._seconds = seconds

    def add(self, row: Row) -> None:
        time.sleep(self._seconds)
        if row.fields:
            raise ValueError("no such fields")
        self.keys.append(row.key)

    def mark(self):
        count = len(self.keys)
        return lambda: self.keys.__delitem__(slice(count, None))

    def close(self) -> None: ...


def pairs(count: int) -> Iterator[list[Sample]]:
    return ([Sample(f"k{2 * n:03d}", {}), Sample(f"k{2 * n + 1:03d}", {})] for n in range(count))


def put_through(stage: PipelinedStage, batches: Iterator[list[Sample]], writer, **settings) -> ShardWork:
    work = ShardWork(stage, writer, **settings)
    try:
        for batch in read_ahead(batches, work.flush):
            work.take(batch)
        work.finish()
    finally:
        work.close()
    return work


class Meeting(Parts):
    """The model waits for a sample of the next batch to be decoded, and for the batch before to be encoded."""

    def setup_events(self) -> None:
        self.decoded = {f"k{n:03d}": threading.Event() for n in range(12)}
        self.encoded = {f"k{n:03d}": threading.Event() for n in range(12)}
        self.predicted_by = set()

    def decode(self, sample):
        self.decoded[sample.key].set()
        return sample.key

    def predict(self, decoded):
        self.predicted_by.add(threading.current_thread())
        number = int(decoded[0][1:])
        assert number >= 10 or self.decoded[f"k{number + 2:03d}"].wait(10)
        assert number == 0 or self.encoded[f"k{number - 1:03d}"].wait(10)
        return decoded

    def encode(self, sample, result):
        self.encoded[sample.key].set()
        return Row(sample.key, {})


def test_the_parts_run_at_the_same_time_and_the_model_in_one_thread():
    stage, writer = Meeting(), Written()
    stage.setup_events()
    work = ShardWork(stage, writer)
    for batch in pairs(6):
        work.take(batch)
    work.finish()
    work.close()
    assert (writer.keys, work.drops) == ([f"k{n:03d}" for n in range(12)], [])
    assert stage.predicted_by == {threading.current_thread()}


@pytest.mark.parametrize("slow", ["writing", "encode", "predict"])
def test_memory_is_bounded_by_whoever_is_slow(slow):
    """Of a shard of any length, no more than a few batches are read and not yet written."""

    class Slow(Parts):
        def predict(self, decoded):
            time.sleep(0.01 * (slow == "predict"))
            return decoded

        def encode(self, sample, result):
            time.sleep(0.01 * (slow == "encode"))
            return Row(sample.key, {})

    def reading():
        for number, batch in enumerate(pairs(40)):
            held.append(2 * number + 2 - len(writer.keys))
            yield batch

    held, writer = [], Written(0.01 * (slow == "writing"))
    put_through(Slow(), reading(), writer)
    assert len(writer.keys) == 80
    assert max(held) <= 20, "two batches read, one taken, two ahead of the model, one in it, two behind, one written"


def test_drops_of_any_part_keep_their_places():
    class Choosy(Parts):
        def decode(self, sample):
            return Drop(sample.key, "undecoded") if sample.key in ("k001", "k002", "k003") else sample.key

        def predict(self, decoded):
            seen.append(decoded)
            return [Drop(key, "unpredicted") if key == "k004" else key for key in decoded]

        def encode(self, sample, result):
            return Drop(result, "unencoded") if result == "k007" else Row(result, {})

    seen, writer = [], Written()
    work = put_through(Choosy(), pairs(4), writer)
    assert writer.keys == ["k000", "k005", "k006"]
    assert seen == [["k000"], ["k004", "k005"], ["k006", "k007"]], "no call for a batch of drops"
    assert [(drop.key, drop.code) for drop in work.drops] == [
        ("k001", "undecoded"),
        ("k002", "undecoded"),
        ("k003", "undecoded"),
        ("k004", "unpredicted"),
        ("k007", "unencoded"),
    ]
    assert (work.samples_in, work.samples_out) == (8, 3)


def test_a_row_that_cannot_be_written_costs_its_sample_alone():
    class Odd(Parts):
        def encode(self, sample, result):
            return Row(sample.key, {"odd": 1} if sample.key == "k004" else {})

    writer = Written()
    work = put_through(Odd(), pairs(5), writer)
    assert writer.keys == [f"k{n:03d}" for n in range(10) if n != 4]
    assert [(drop.key, drop.detail) for drop in work.drops] == [("k004", "ValueError: no such fields")]


def test_a_model_that_forgets_a_sample_is_a_bug():
    class Forgetful(Parts):
        def predict(self, decoded):
            return decoded[1:]

    with pytest.raises(ValueError, match="parts: predict gave 0 results for 1 samples"):
        put_through(Forgetful(), pairs(3), Written())


def test_nothing_is_in_flight_while_the_next_samples_are_waited_for():
    """Else a storage that is slow to read would look like a sample that hangs."""
    told = []

    def slowly():
        for batch in pairs(3):
            yield batch
            time.sleep(0.3)
            at_rest.append(told[-1])

    at_rest = []
    put_through(Parts(), slowly(), Written(), in_flight=told.append)
    assert at_rest == [[], [], []]
    assert [["k000", "k001"]] in told


def test_what_is_worked_on_is_told_before():
    class Telling(Parts):
        def decode(self, sample):
            assert sample.key in [key for batch in told[-1] for key in batch]
            return sample.key

        def predict(self, decoded):
            assert decoded in told[-1]
            return decoded

        def encode(self, sample, result):
            assert sample.key in [key for batch in told[-1] for key in batch]
            return Row(sample.key, {})

    told = []
    work = put_through(Telling(), pairs(10), Written(), in_flight=told.append)
    assert (work.drops, work.samples_out, told[-1]) == ([], 20, [])


def test_an_error_of_reading_ends_the_shard_and_its_threads():
    def broken():
        yield from pairs(2)
        raise OSError("gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        put_through(Parts(), broken(), Written())
    assert threading.active_count() == before
