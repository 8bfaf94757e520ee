import hashlib
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dap_engine.engine.records.keys import ColumnError
from dap_engine.engine.rundir import index as index_module
from dap_engine.engine.rundir.index import IndexWriter, read_receipts, write_index
from dap_engine.engine.rundir.listing import error_path, index_folder, receipt_path, retry_path
from dap_engine.engine.rundir.receipt_table import SCHEMA, Receipts, receipt_row
from dap_engine.engine.rundir.receipts import Receipt, read_receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Entry
from tests.engine.receipts import put, receipt, receipts_of

SHARDS = [f"{number:02d}" for number in range(6)]


@pytest.fixture
def few(monkeypatch):
    """A few receipts are worth an index."""
    monkeypatch.setattr(index_module, "WORTH_INDEXING", 1)


def opened(run: RunDir) -> int:
    return read_receipts(run.storage, "x").opened


def one_by_one(run: RunDir) -> tuple[dict[str, Receipt], set[str]]:
    """What a column's receipts are, without any index: those that are whole, and the names of the others."""
    whole, damaged = {}, set()
    for name in run.storage.list("receipts/x"):
        shard = name.removesuffix(".json")
        try:
            whole[shard] = read_receipt(run.storage.read_bytes(f"receipts/x/{name}"), "x", shard)
        except ColumnError:
            damaged.add(shard)
    return whole, damaged


def index_parts(run: RunDir) -> list[Path]:
    """The files that the index of the column consists of."""
    return sorted(Path(run.uri, index_folder("x")).glob("*"))


def indexed(run: RunDir, count: int = 12) -> dict[str, Receipt]:
    """A column on a disk of which all but the last receipt are in the index."""
    made = {f"{number:04d}": receipt("x", f"{number:04d}", number) for number in range(count)}
    for number, one in enumerate(made.values()):
        put(run, one, at_s=1000 if number < count - 1 else 2000)
    write_index(run.storage, run.receipts("x"))
    assert opened(run) == 1
    return made


@settings(max_examples=40)
@given(st.lists(receipts_of("x", ""), max_size=4))
def test_any_receipt_comes_back_from_the_table_as_it_was(made):
    named = [Receipt(**{**vars(one), "shard": f"{number:02d}"}) for number, one in enumerate(made)]
    rows = [receipt_row(one, Entry(1, 2)) for one in named]
    found = Receipts("x", pa.Table.from_pylist(rows, schema=SCHEMA))
    assert list(found.values()) == named
    assert [one.fingerprint for one in found.values()] == [Receipt(**vars(one)).fingerprint for one in named]
    lines = "".join(f"{one.shard} {one.output.sha256}\n" for one in named)
    assert found.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert [one for one in named if Receipt.from_bytes(one.to_bytes()) != one] == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([".tar", ".parquet"]),
            st.integers(0, 9),
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)),
        )
    )
)
def test_totals_are_those_of_the_receipts(contents):
    made = []
    for number, (suffix, samples, drops) in enumerate(contents):
        one = receipt("x", f"{number:03d}", samples_in=samples + 1, samples_out=samples, drops=drops)
        made.append(Receipt(**{**vars(one), "output": type(one.output)(f"x/{number:03d}{suffix}", "0" * 64, 1)}))
    table = pa.Table.from_pylist([receipt_row(one, Entry(1, 1)) for one in made], schema=SCHEMA)
    found = Receipts("x", table)
    counted = [one for one in made if one.output.path.endswith(".tar")] or made
    assert found.samples == (sum(one.samples_in for one in counted), sum(one.samples_out for one in counted))
    drops = sum((Counter(one.drops) for one in made), Counter())  # leaves zeros out
    assert found.drops.keys() == {code for one in made for code in one.drops}
    assert {code: count for code, count in found.drops.items() if count} == dict(drops)


class Changes(RuleBasedStateMachine):
    """Workers write, replace and damage receipts by a clock that ticks once a second; a driver keeps an index."""

    @initialize()
    def begin(self):
        self.folder = Path(mkdtemp())
        self.run, self.now_s = RunDir(str(self.folder)), 1_000_000
        self.keeper = IndexWriter(self.run.storage)

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(shard=st.sampled_from(SHARDS), number=st.integers(0, 3))
    def write(self, shard, number):
        put(self.run, receipt("x", shard, number), self.now_s)

    @rule(shard=st.sampled_from(SHARDS))
    def damage(self, shard):
        path = self.folder / receipt_path("x", shard)
        if path.exists():
            path.write_bytes(bytes(path.stat().st_size))
            os.utime(path, ns=(self.now_s * 10**9, self.now_s * 10**9))

    @rule(shard=st.sampled_from(SHARDS))
    def remove(self, shard):
        (self.folder / receipt_path("x", shard)).unlink(missing_ok=True)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds):
        self.now_s += seconds

    @rule()
    def keep_index(self):
        write_index(self.run.storage, self.run.receipts("x"))

    @rule(shard=st.sampled_from(SHARDS))
    def tell_keeper(self, shard):
        self.keeper.wrote("x", shard)

    @precondition(lambda self: bool(index_parts(self.run)))
    @rule(share=st.floats(0, 1), byte=st.integers(0, 255))
    def damage_index(self, share, byte):
        path = index_parts(self.run)[0]
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] = byte
        path.write_bytes(data)

    @invariant()
    def the_index_changes_nothing(self):
        found = self.run.receipts("x")
        whole, damaged = one_by_one(self.run)
        assert dict(found) == whole
        assert set(found.damaged) == damaged


def test_whatever_happens_the_index_changes_nothing(few):
    Changes.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
    Changes.TestCase("runTest").runTest()


def test_what_is_indexed_is_listed_not_opened(place, few, monkeypatch):
    monkeypatch.setattr(index_module, "_YOUNG_NS", 0)  # fewer seconds to wait for
    run = RunDir(place)
    for shard in SHARDS:
        put(run, receipt("x", shard))
    write_index(run.storage, run.receipts("x"))
    assert opened(run) > 0  # the youngest, at least
    time.sleep(1.1)
    put(run, receipt("x", "99"))
    write_index(run.storage, run.receipts("x"))
    assert opened(run) == 1
    assert list(run.receipts("x")) == [*SHARDS, "99"]
    assert run.columns() == ["x"]


def test_a_receipt_replaced_within_the_same_second_is_seen(tmp_path, few):
    run = RunDir(str(tmp_path))
    put(run, receipt("x", "00"), at_s=1000)
    put(run, receipt("x", "01", 1), at_s=2000)
    write_index(run.storage, run.receipts("x"))
    put(run, receipt("x", "01", 2), at_s=2000)
    assert run.receipts("x")["01"] == receipt("x", "01", 2)


def test_a_deleted_index_is_written_again(tmp_path, few):
    run = RunDir(str(tmp_path))
    made = indexed(run)
    shutil.rmtree(tmp_path / index_folder("x"))
    assert opened(run) == len(made)
    write_index(run.storage, run.receipts("x"))
    assert opened(run) == 1
    assert dict(run.receipts("x")) == made


@pytest.mark.parametrize("content", [b"", b"no index at all", "another", "half", "foreign"])
def test_what_is_no_index_is_ignored_and_replaced(tmp_path, few, content):
    run = RunDir(str(tmp_path))
    made = indexed(run)
    (path,) = index_parts(run)
    if content == "another":
        pq.write_table(pa.table({"shard": list(made)}), path)
        path.rename(path.with_name(hashlib.sha256(path.read_bytes()).hexdigest() + ".parquet"))
    elif content == "foreign":
        path.unlink()
        path.with_name(hashlib.sha256(b"PAR").hexdigest() + ".parquet").write_bytes(b"PAR")
    else:
        path.write_bytes(path.read_bytes()[:-2000] if content == "half" else content)
    assert dict(run.receipts("x")) == made
    write_index(run.storage, run.receipts("x"))
    assert opened(run) == 1
    assert len(index_parts(run)) == 1


def test_no_flipped_bit_of_an_index_is_believed(tmp_path, few):
    run = RunDir(str(tmp_path))
    made = indexed(run)
    (path,) = index_parts(run)
    whole = path.read_bytes()
    for position in range(0, len(whole), 41):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        assert dict(run.receipts("x")) == made, position


def test_damaged_receipts_are_named_and_count_for_nothing(place):
    run = RunDir(place)
    put(run, receipt("x", "00"))
    values = json.loads(receipt("x", "01").to_bytes())
    broken = {
        "01": b"{",
        "02": b"[]",
        "03": json.dumps({**values, "shard": "03", "samples_out": "many"}).encode(),
        "04": json.dumps({**values, "shard": "04", "fingerprint": "0" * 64}).encode(),
        "05": receipt("x", "00").to_bytes(),
        "06": json.dumps({**values, "shard": "06", "samples_in": 2**70}).encode(),
        "07": b"[" * 100_000,
        "08": receipt("x", "08").to_bytes().replace(b"0" * 64, b"0" * 63 + b"g"),
    }
    for shard, data in broken.items():
        run.storage.write_bytes(receipt_path("x", shard), data)
    found = run.receipts("x")
    assert list(found) == ["00"]
    assert found.damaged.keys() == broken.keys()
    assert all(message.startswith("damaged receipt") and "\n" not in message for message in found.damaged.values())
    assert "that of x/00" in found.damaged["05"]
    assert [run.receipt("x", shard) for shard in broken] == [None] * len(broken)


def test_failures_and_marks_are_no_receipts(place):
    run = RunDir(place)
    put(run, receipt("x", "00"))
    run.storage.write_bytes(error_path("x", "01"), b'{"traceback": "oh"}')
    run.storage.write_bytes(retry_path("x", "00"), b"{}")
    found = run.receipts("x")
    assert (list(found), found.failed, found.marked, found.damaged) == (["00"], {"01"}, {"00"}, {})


def test_a_receipt_taken_away_after_the_listing_is_absent(tmp_path, monkeypatch):
    run = RunDir(str(tmp_path))
    for shard in SHARDS:
        put(run, receipt("x", shard))
    read_many = type(run.storage).read_many

    def too_late(storage, paths):
        storage.delete(receipt_path("x", "03"))
        return read_many(storage, paths)

    monkeypatch.setattr(type(run.storage), "read_many", too_late)
    assert list(run.receipts("x")) == [shard for shard in SHARDS if shard != "03"]


def test_an_index_grows_with_its_column(tmp_path, monkeypatch):
    """Few receipts are ever left to open, none is opened twice for it, and a new run makes one part of many."""
    monkeypatch.setattr(index_module, "WORTH_INDEXING", 5)
    monkeypatch.setattr(index_module, "MOST_PARTS", 4)
    run, keeper, read = RunDir(str(tmp_path)), IndexWriter(RunDir(str(tmp_path)).storage), []
    read_many = type(run.storage).read_many
    made = {f"{number:04d}": receipt("x", f"{number:04d}", number) for number in range(60)}
    for number, one in enumerate(made.values()):
        put(run, one, at_s=1000 + 10 * number)
        with monkeypatch.context() as patch:
            patch.setattr(type(run.storage), "read_many", lambda *args: (read.extend(args[1]), read_many(*args))[1])
            keeper.wrote("x", one.shard)
        assert opened(run) <= 10
    assert len(read) <= len(made) + len(index_parts(run))
    assert len(index_parts(run)) > 4
    write_index(run.storage, run.receipts("x"))
    assert len(index_parts(run)) == 1
    assert dict(run.receipts("x")) == made


def test_what_a_keeper_was_told_of_is_not_opened_again(place, few, monkeypatch):
    monkeypatch.setattr(index_module, "_YOUNG_NS", 0)  # fewer seconds to wait for
    run = RunDir(place)
    keeper = IndexWriter(run.storage)
    for shard in (*SHARDS, "99"):
        if shard == "99":
            time.sleep(1.1)
        put(run, receipt("x", shard))
        keeper.wrote("x", shard)
    keeper.wrote("x", "98")  # whose receipt was taken away again
    assert opened(run) <= 2
    assert dict(run.receipts("x")) == {shard: receipt("x", shard) for shard in (*SHARDS, "99")}


def test_young_receipts_are_not_opened_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_INDEXING", 5)
    run, keeper, read = RunDir(str(tmp_path)), IndexWriter(RunDir(str(tmp_path)).storage), []
    read_many = type(run.storage).read_many
    monkeypatch.setattr(type(run.storage), "read_many", lambda *args: (read.extend(args[1]), read_many(*args))[1])
    for number in range(40):
        put(run, receipt("x", f"{number:04d}"), at_s=1000)
        keeper.wrote("x", f"{number:04d}")
    assert len(read) == 10 + 20 + 30 + 40


def test_a_receipt_of_two_parts_is_one(tmp_path, few):
    run = RunDir(str(tmp_path))
    made = indexed(run)
    keeper = IndexWriter(run.storage)
    for shard in (*made, *made):
        keeper.wrote("x", shard)
    assert len(index_parts(run)) > 1
    assert list(run.receipts("x")) == sorted(made)


def test_what_is_gone_or_damaged_by_then_stays_out_of_the_index(tmp_path, few):
    run = RunDir(str(tmp_path))
    put(run, receipt("x", "00"), at_s=1000)
    run.storage.write_bytes(receipt_path("x", "01"), b"{")
    keeper = IndexWriter(run.storage)
    for shard in ("00", "01", "02", "03"):
        keeper.wrote("x", shard)
    found = run.receipts("x")
    assert (list(found), list(found.damaged)) == (["00"], ["01"])


def test_a_small_column_has_no_index(tmp_path):
    run = RunDir(str(tmp_path))
    put(run, receipt("x", "00"), at_s=1000)
    write_index(run.storage, run.receipts("x"))
    assert index_parts(run) == []
