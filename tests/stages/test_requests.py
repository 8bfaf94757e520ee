"""What packing and loading cost on an object store, counted: a request a sample, and a few a shard."""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage import faults
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.stages.pack import Pack
from dap_engine.stages.packing import samples
from dap_engine.stages.packing.sources import Source
from dap_engine.stages.training.settings import DataConfig
from tests.engine.storage.faulty_s3 import Fault, FaultyS3, Request
from tests.runs import FRAMES, Bring, finished, hashes, jpeg

SHARDS, FRAMES_EACH = 4, 16
DEPTH = encode_depth_png(np.full((16, 32), 3.0, np.float32))
FRAMES_AND_LABELS = Source(images="frames", labels="labels-1")
PACK = Pack("x", [FRAMES_AND_LABELS], samples_per_shard=32)
DATA = DataConfig(image_height=16, batch_size=8, num_workers=1)


def columns() -> list[Bring]:
    image = {"jpg": jpeg(0, height=16), "json": {"split": "train"}}
    label = {"depth.png": DEPTH, "json": {"median_m": 3.0}}
    keys = {f"{n:06d}": [f"v{n}-{frame:04d}" for frame in range(FRAMES_EACH)] for n in range(SHARDS)}
    return [
        Bring(column, {shard: [Row(key, fields) for key in those] for shard, those in keys.items()})
        for column, fields in ((FRAMES, image), (TarColumn("labels-1", ("depth.png", "json")), label))
    ]


class CountingS3:
    """A run behind a proxy that knows what was asked for."""

    def __init__(self, uri: str, endpoint: str) -> None:
        self.proxy = FaultyS3(endpoint)
        self.uri = uri.replace(urllib.parse.quote(endpoint), urllib.parse.quote(self.proxy.endpoint))
        self.asked: list[Request] = []
        self.proxy.fault = self._note

    def _note(self, request: Request) -> Fault:
        self.asked.append(request)
        return Fault.NONE

    def count(self, pattern: str) -> int:
        """Requests for what matches, since the last call of `forget`."""
        return sum(bool(re.search(pattern, urllib.parse.unquote(request.path))) for request in self.asked)

    def forget(self) -> None:
        self.asked.clear()


@pytest.fixture
def counting(s3_uri, s3_endpoint):
    counting = CountingS3(s3_uri, s3_endpoint)
    yield counting
    counting.proxy.go_away()


@pytest.fixture(autouse=True)
def node(tmp_path, monkeypatch):
    """A node that has no index yet."""
    monkeypatch.setattr(samples, "_node_folder", lambda: tmp_path)


@pytest.mark.slow
def test_packing_reads_tables_and_a_request_a_sample_and_column(counting, s3_uri, tmp_path):
    finished(counting.uri, *columns())
    counting.forget()
    run = finished(counting.uri, *columns(), PACK)
    packed = SHARDS * FRAMES_EACH
    assert counting.count(r"/(frames|labels-1)/\d+\.tar") <= 1.3 * 2 * packed
    assert counting.count(r"/\.members/(frames|labels-1)/") <= 3 * 2 * SHARDS
    local = finished(tmp_path / "local", *columns(), PACK)
    assert hashes(run, "train-x") == hashes(local, "train-x")


def test_a_run_from_before_the_tables_is_packed_to_the_same_bytes(tmp_path):
    run = finished(tmp_path / "old", *columns())
    tables = sorted((tmp_path / "old" / ".members").rglob("*.parquet"))
    assert len(tables) == 2 * SHARDS
    for table in tables:
        table.unlink()
    run = finished(tmp_path / "old", *columns(), PACK)
    assert hashes(run, "train-x") == hashes(finished(tmp_path / "new", *columns(), PACK), "train-x")
    assert sorted((tmp_path / "old" / ".members" / "frames").iterdir())  # scanned once


def test_a_table_of_members_goes_with_its_tar(tmp_path):
    shard = columns()[0].rows["000000"]
    for rows in (shard, shard[:3]):
        finished(tmp_path, Bring(FRAMES, {"000000": rows, "000001": shard}))
    finished(tmp_path, Bring(FRAMES, {"000000": shard[:3]}))
    (left,) = (tmp_path / ".members" / "frames").iterdir()
    receipt = RunDir(str(tmp_path)).receipt("frames", "000000")
    assert left.name == f"000000-{receipt.output.sha256[:16]}.parquet"


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_loading_takes_a_request_a_sample_and_few_a_shard(counting, s3_uri, num_workers):
    finished(s3_uri, *columns(), PACK)
    data = DataConfig(image_height=16, batch_size=8, num_workers=num_workers).module(Storage(counting.uri), "train-x")
    keys = Counter(key for batch in data.loader(training=True) for key in batch["key"])
    assert len(keys) == keys.total() == SHARDS * FRAMES_EACH
    of_shards = counting.count(r"/train-x/train-\d+\.tar")
    assert of_shards <= 1.05 * keys.total() + 2 * max(num_workers, 1)
    assert len(counting.asked) <= 1.05 * keys.total() + 3 * 2 * max(num_workers, 1) + 12  # the tables, once a node
    counting.forget()
    DATA.module(Storage(counting.uri), "train-x")
    assert counting.count("samples.parquet") == 0  # the node has its index


@pytest.mark.slow
def test_loading_outlasts_faults_of_the_store(counting, s3_uri, monkeypatch):
    monkeypatch.setattr(faults, "FIRST_PAUSE_S", 0.01)
    finished(s3_uri, *columns(), PACK)
    data = DATA.module(Storage(counting.uri), "train-x")
    undisturbed = [batch["key"] for batch in data.loader(training=True)]
    disturbed = itertools.cycle([Fault.THROTTLE, *[Fault.NONE] * 4, Fault.ERROR, *[Fault.NONE] * 4, Fault.CUT_DOWNLOAD])
    counting.proxy.fault = lambda _: next(disturbed)
    assert [batch["key"] for batch in data.loader(training=True)] == undisturbed


@pytest.mark.slow
def test_a_column_packed_by_others_is_scanned_once(counting, s3_uri, tmp_path):
    run = finished(s3_uri, *columns(), PACK)
    run.storage.delete("train-x/samples.parquet")
    scanned = DATA.module(Storage(counting.uri), "train-x").train
    assert counting.count(r"/train-x/train-\d+\.tar") > 0
    counting.forget()
    again = DATA.module(Storage(counting.uri), "train-x").train
    assert counting.count(r"/train-x/train-\d+\.tar") == 0
    assert [again.read(n) for n in range(3)] == [scanned.read(n) for n in range(3)]
    local = finished(tmp_path / "local", *columns(), PACK)
    assert DATA.module(local.storage, "train-x").train.read(7) == scanned.read(7)


def test_a_table_that_does_not_fit_the_index_is_refused(tmp_path):
    run = finished(tmp_path / "run", *columns(), PACK)
    index = Path(run.uri) / "train-x" / "index.json"
    index.write_text(index.read_text().replace('"samples": 32', '"samples": 31'))
    with pytest.raises(ValueError, match="its table of samples does not fit its index"):
        DATA.module(run.storage, "train-x")
