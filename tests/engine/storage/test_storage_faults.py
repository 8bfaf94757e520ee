"""An object store that throttles, refuses, cuts transfers, loses answers or falls silent."""

import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from dap_engine.engine.execution.executor import Executor, InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.ray_executor import RayExecutor
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage import faults, object_store
from dap_engine.engine.storage.storage import Storage, StorageError
from tests.engine.steps import RECIPE, STEPS
from tests.engine.storage.faulty_s3 import Fault, FaultyS3

DATA = random.Random(7).randbytes(300_000)
BIG = random.Random(8).randbytes(11 << 20)  # two parts of an upload, several reads of a stream
OPERATIONS = {
    "write_bytes": lambda storage: storage.write_bytes("new", DATA),
    "read_bytes": lambda storage: storage.read_bytes("x") == DATA,
    "read_range": lambda storage: storage.read_range("x", 1000, 50) == DATA[1000:1050],
    "peek": lambda storage: storage.peek("x", 1000, 50) == DATA[1000:1050],
    "read_many": lambda storage: storage.read_many(["x", "x"]) == [DATA, DATA],
    "open": lambda storage: storage.open("x").read() == DATA,
    "list": lambda storage: storage.list("") == {"x": len(DATA)},
    "size": lambda storage: storage.size("x") == len(DATA),
    "hash_object": lambda storage: storage.hash_object("x") == hashlib.sha256(DATA).hexdigest(),
    "delete": lambda storage: storage.delete("x"),
}
PASSING = [Fault.THROTTLE, Fault.ERROR, Fault.CUT_UPLOAD, Fault.CUT_DOWNLOAD, Fault.LOSE_ANSWER]


@pytest.fixture
def proxy(s3_endpoint):
    proxy = FaultyS3(s3_endpoint)
    yield proxy
    proxy.go_away()


@pytest.fixture
def faulty(proxy, s3_uri, s3_endpoint, monkeypatch):
    """A storage behind the proxy, with an object in it, and little patience."""
    monkeypatch.setattr(faults, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(faults, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(faults, "RETRY_FOR_S", 1.0)
    Storage(s3_uri).write_bytes("x", DATA)
    return Storage(s3_uri.replace(urllib.parse.quote(s3_endpoint), urllib.parse.quote(proxy.endpoint)))


def run(place, executor: Callable[[], Executor] = InProcessExecutor):
    graph = build_graph(load_recipe(RECIPE, STEPS).nodes)
    return Runner(graph, RunDir(place), executor, Progress()).run(graph.nodes)


def content(storage):
    """All that a run has made, by path."""
    return {
        path: storage.read_bytes(path)
        for path in storage.list("")
        if not path.startswith(("receipts/", "logs/", ".tmp/"))
    }


def broken_promises(directory):
    """Objects that are not what their receipt says."""
    for column in directory.columns():
        for receipt in directory.receipts(column).values():
            if directory.storage.hash_object(receipt.output.path) != receipt.output.sha256:
                yield receipt.output.path


@contextmanager
def watched(uri):
    """Looks at every receipt and its object all the time, past the proxy; raises if one is ever not whole."""
    directory, done, found, rounds = RunDir(uri), threading.Event(), [], []

    def watch():
        while not done.wait(0.05):
            found.extend(broken_promises(directory))
            rounds.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    done.set()
    watcher.join()
    assert found == []
    assert rounds


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_outlasts_what_passes(faulty, proxy, name):
    for fault in PASSING:
        with proxy.failing([fault, Fault.NONE, fault]):
            assert OPERATIONS[name](faulty) in (None, True), fault
    assert Storage(faulty.uri).read_bytes("new" if name == "write_bytes" else "x") == DATA if name != "delete" else True


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_lasts_is_one_line_that_names_the_object_and_the_cause(faulty, proxy, name, monkeypatch):
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.05)
    with proxy.failing(itertools.repeat(Fault.THROTTLE)), pytest.raises(StorageError) as throttled:
        OPERATIONS[name](faulty)
    with proxy.down(), pytest.raises(StorageError) as refused:
        OPERATIONS[name](Storage(faulty.uri))
    place = {"list": "/run?", "write_bytes": "/run/new?"}.get(name, "/run/x?")
    for error, words in [(throttled, "503|slow down: Please reduce"), (refused, "Could not connect")]:
        assert "\n" not in str(error.value)
        assert place in str(error.value)
        error.match(f"({words}).*given up after [0-9]+ attempts")


def test_a_part_read_is_one_request(faulty, proxy):
    faulty.write_bytes("big", BIG)
    faulty.write_bytes("empty", b"")
    assert faulty.peek("x", len(DATA), 50) == b""
    with faulty.open("x") as stream, faulty.open("big") as longer:
        for read, requests in [
            (lambda: faulty.read_bytes("x"), 1),
            (lambda: faulty.read_range("x", 1000, 50), 1),
            (lambda: faulty.peek("x", 1000, 50), 1),
            (lambda: faulty.open("x"), 1),
            (lambda: stream.read(1000), 0),
            (lambda: (stream.read(), stream.read(1)), 1),
            (lambda: (longer.seek(-100, os.SEEK_END), longer.read()), 1),
            (lambda: faulty.open("empty").read(), 1),
        ]:
            before = proxy.requests
            read()
            assert proxy.requests - before == requests
    assert faulty.read_bytes("empty") == b""


def test_waiting_ends_and_is_not_done_again_until_something_succeeds(faulty, proxy, monkeypatch):
    pauses = []
    monkeypatch.setattr(faults.time, "sleep", lambda pause_s: pauses.append(pause_s))
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.0)
    with proxy.down():
        with pytest.raises(StorageError, match="after 3 attempts"):  # never fewer
            faulty.size("x")
        assert len(pauses) == 2
        for _ in range(100):
            with pytest.raises(StorageError, match="given up at once"):
                faulty.size("x")
        assert len(pauses) == 2
    assert faulty.size("x") == len(DATA)
    with proxy.failing([Fault.THROTTLE]):
        assert faulty.size("x") == len(DATA)
    assert len(pauses) == 3


def test_refusals_and_missing_objects_are_not_repeated(faulty, proxy):
    for name, operation in OPERATIONS.items():
        before = proxy.requests
        with proxy.failing(itertools.repeat(Fault.DENY)), pytest.raises(StorageError, match="access denied"):
            operation(faulty)
        assert proxy.requests - before <= (2 if name == "read_many" else 1)
    before = proxy.requests
    with pytest.raises(FileNotFoundError):
        faulty.read_bytes("none")
    with pytest.raises(FileNotFoundError):
        faulty.open("none")
    assert proxy.requests - before == 2
    faulty.delete("none")


def test_a_silent_server_costs_a_bounded_time(faulty, proxy, monkeypatch):
    monkeypatch.setattr(object_store, "_SILENCE_S", 1.0)
    start_s = time.monotonic()
    with proxy.failing(itertools.repeat(Fault.SILENCE)), pytest.raises(StorageError, match="too slow"):
        Storage(faulty.uri).read_bytes("x")
    assert time.monotonic() - start_s < 30


def test_a_stream_is_whole_or_raises(faulty, proxy):
    faulty.write_bytes("big", BIG)
    cuts = random.Random(3)
    trouble = (cuts.choice([Fault.CUT_DOWNLOAD, Fault.THROTTLE, Fault.NONE]) for _ in itertools.count())
    with proxy.failing(trouble), faulty.open("big") as stream:
        assert b"".join(iter(lambda: stream.read(10_000), b"")) == BIG
        stream.seek(-500, os.SEEK_END)
        assert stream.read(10**9) == BIG[-500:]
    always = proxy.failing(itertools.repeat(Fault.CUT_DOWNLOAD), lambda request: request.method == "GET")
    with faulty.open("big") as stream, always, pytest.raises(StorageError, match=r"/run/big.*bytes missing"):
        stream.read()


@pytest.mark.parametrize("successor", [b"short", BIG[::-1]])
def test_a_stream_of_a_replaced_object_raises(faulty, successor):
    faulty.write_bytes("big", BIG)
    with faulty.open("big") as stream:
        assert stream.read(100) == BIG[:100]
        faulty.write_bytes("big", successor)
        with pytest.raises(StorageError, match=r"/run/big.*: replaced while it was read"):
            stream.read()
    assert faulty.read_bytes("big") == successor


def test_an_object_replaced_between_two_requests_is_read_again(faulty, proxy, s3_uri):
    """pyarrow fills up with what lay in memory where an object has become shorter than it was a request before."""
    once, direct = iter([True]), Storage(s3_uri)
    direct.size("x")  # pyarrow opens no client while another one waits for an answer

    def replace(request):
        if request.method == "GET" and next(once, False):
            direct.write_bytes("x", b"short")
        return Fault.NONE

    proxy.fault = replace
    assert faulty.read_bytes("x") == b"short"


def test_an_upload_that_breaks_off_leaves_what_was_there(faulty, proxy, s3_uri):
    before = hashlib.sha256(DATA).hexdigest()
    stations = ["?uploads", "partNumber=1", "partNumber=2", "?uploadId"]
    for fault, station in itertools.product([Fault.THROTTLE, Fault.CUT_UPLOAD], stations):
        trouble = proxy.failing(itertools.repeat(fault), lambda request, station=station: station in request.path)
        with trouble, pytest.raises(StorageError, match="/run/x"):
            faulty.write_bytes("x", BIG)
        assert Storage(s3_uri).hash_object("x") == before
    faulty.write_bytes("x", BIG)
    assert Storage(s3_uri).read_bytes("x") == BIG


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_upload_that_is_interrupted_is_whole_or_not_there(faulty, proxy, s3_uri, sent):
    """pyarrow's own streams would complete it as far as it got."""
    code = """
import signal, sys
from dap_engine.engine.storage.storage import Storage
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what is in the background without it
Storage(sys.argv[1]).write_bytes('x', b'n' * 3_000_000)
"""
    proxy.bytes_per_s = 1_500_000
    seen = threading.Event()
    proxy.fault = lambda request: (seen.set() if request.method == "PUT" else None) or Fault.NONE
    writer = subprocess.Popen([sys.executable, "-c", code, faulty.uri], stderr=subprocess.DEVNULL)
    try:
        assert seen.wait(60)
        time.sleep(0.2)
        writer.send_signal(sent)
        assert writer.wait(60) != 0
    finally:
        writer.kill()
        writer.wait()
    assert Storage(s3_uri).read_bytes("x") in (DATA, b"n" * 3_000_000)


@pytest.mark.slow
def test_a_run_outlasts_a_bad_network_with_the_same_bytes(faulty, proxy, s3_uri, tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "RETRY_FOR_S", 10.0)
    Storage(s3_uri).delete("x")
    run(str(tmp_path))
    dice = random.Random(11)
    hits = []

    def fault(_):
        hits.append(dice.random() < 0.1)
        return dice.choice(PASSING) if hits[-1] else Fault.NONE

    proxy.fault = fault
    with watched(s3_uri):
        result = run(faulty.uri)
    assert (result.worked, result.unfinished) == (10, [])
    assert sum(hits) > 10
    assert content(Storage(s3_uri)) == content(Storage(str(tmp_path)))


@pytest.mark.slow
def test_a_run_fails_clearly_through_a_long_outage_and_resumes(faulty, proxy, s3_uri, tmp_path, monkeypatch):
    Storage(s3_uri).delete("x")
    run(str(tmp_path))
    lines = []
    for requests in (3, 60):  # an outage from the beginning on, and one halfway
        leave = proxy.requests + requests
        proxy.fault = lambda _, leave=leave: Fault.THROTTLE if proxy.requests > leave else Fault.NONE
        start_s = time.monotonic()
        with watched(s3_uri):
            try:
                unfinished = run(faulty.uri).unfinished
                lines += [outcome.error for outcome in unfinished if outcome.status == "failed"]
            except StorageError as error:
                lines.append(str(error))
        assert time.monotonic() - start_s < 60
    assert len(lines) >= 2
    assert all("\n" not in line and proxy.endpoint in urllib.parse.unquote(line) for line in lines)
    proxy.fault = lambda _: Fault.NONE
    assert run(faulty.uri).unfinished == []
    assert content(Storage(s3_uri)) == content(Storage(str(tmp_path)))


@pytest.mark.slow
def test_a_run_on_ray_waits_out_a_server_that_is_gone_for_ten_seconds(proxy, s3_uri, s3_endpoint, tmp_path):
    run(str(tmp_path))
    uri = s3_uri.replace(urllib.parse.quote(s3_endpoint), urllib.parse.quote(proxy.endpoint))
    first = threading.Event()  # upload of a worker
    proxy.fault = lambda r: (first.set() if r.method == "PUT" and "/numbers/" in r.path else None) or Fault.NONE

    def outage():
        first.wait()
        with proxy.down():
            time.sleep(10)

    cut = threading.Thread(target=outage)
    cut.start()
    with watched(s3_uri):
        result = run(uri, executor=RayExecutor)
    cut.join()
    assert (result.worked, result.unfinished) == (10, [])
    assert content(Storage(s3_uri)) == content(Storage(str(tmp_path)))


@pytest.mark.slow
def test_patience_as_it_is_ends_within_a_minute(proxy, s3_uri, s3_endpoint):
    uri = s3_uri.replace(urllib.parse.quote(s3_endpoint), urllib.parse.quote(proxy.endpoint))
    Storage(s3_uri).write_bytes("x", DATA)
    for trouble in (proxy.down(), proxy.failing(itertools.repeat(Fault.SILENCE))):
        start_s = time.monotonic()
        with trouble, pytest.raises(StorageError):
            Storage(uri).read_bytes("x")
        assert 20 < time.monotonic() - start_s < 60
    threading.Timer(20, proxy.come_back).start()
    proxy.go_away()
    assert Storage(uri).read_bytes("x") == DATA
