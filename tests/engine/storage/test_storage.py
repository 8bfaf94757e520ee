import io
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import pytest

from dap_engine.engine.storage import scratch
from dap_engine.engine.storage.hashing import hash_local
from dap_engine.engine.storage.object_store import open_store
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage, StorageError
from tests.engine.storage.faulty_s3 import FaultyS3


def tar_of(members, size):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number in range(members):
            member = tarfile.TarInfo(f"{number:05d}.bin")
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return sink.getvalue()


def test_write_list_read(place):
    storage = Storage(place)
    storage.write_bytes("a/b.bin", b"12345")
    storage.write_bytes("a/c/d.bin", b"1")
    assert storage.list("a") == {"b.bin": 5, "c/d.bin": 1}
    assert storage.list("") == {"a/b.bin": 5, "a/c/d.bin": 1}
    assert storage.list("nothing") == {}
    assert storage.read_bytes("a/b.bin") == b"12345"
    assert storage.read_many(["a/c/d.bin", "a/b.bin"]) == [b"1", b"12345"]
    assert storage.read_range("a/b.bin", 1, 3) == b"234"
    assert (storage.size("a/b.bin"), storage.size("a/x.bin")) == (5, None)


def test_a_listing_says_size_and_time_in_the_order_of_paths(place):
    storage, before_ns = Storage(place), time.time_ns()
    for path in ("b/2", "a.x", "b/10", "a/1", "b/2.x/3"):
        storage.write_bytes(path, path.encode())
    found = storage.entries("")
    assert list(found) == sorted(found) == ["a.x", "a/1", "b/10", "b/2", "b/2.x/3"]
    assert all(entry == storage.info(path) and entry.bytes == len(path) for path, entry in found.items())
    a_second_ns = 1_000_000_000  # what S3 counts in
    assert all(before_ns - a_second_ns < e.mtime_ns < time.time_ns() + a_second_ns for e in found.values())
    assert list(storage.entries("b")) == ["10", "2", "2.x/3"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a/.."])
def test_paths_that_lead_outside_are_refused(place, path):
    """They come from receipts, which anybody may have written."""
    storage = Storage(place)
    for use in (storage.read_bytes, storage.open, storage.size, storage.entries, storage.delete, storage.hash_object):
        with pytest.raises(StorageError, match="leads outside"):
            use(path)
    with pytest.raises(StorageError, match="leads outside"):
        storage.write_bytes(path, b"1")
    storage.write_bytes("a..b/c..", b"1")
    assert storage.read_bytes("a..b/c..") == b"1"


def test_a_stream_reads_seeks_and_ends_like_a_file(place, tmp_path):
    data = random.Random(5).randbytes(3_000_000)
    Storage(place).write_bytes("x", data)
    (tmp_path / "file").write_bytes(data)
    dice = random.Random(6)
    with Storage(place).open("x") as stream, (tmp_path / "file").open("rb") as file:
        for _ in range(60):
            to, size = dice.randrange(len(data)), dice.choice([1, 512, 10_240, 70_000, 1_000_000])
            if dice.random() < 0.4:
                assert stream.seek(to) == file.seek(to)
            assert stream.read(size) == file.read(size)
            assert stream.tell() == file.tell()
        assert stream.seek(-7, os.SEEK_END) == len(data) - 7
        assert stream.read() == data[-7:]
        assert stream.read() == stream.read(5) == b""


def test_a_tar_is_read_from_s3_in_few_requests(s3_uri, s3_endpoint):
    """tarfile asks for 10 KiB at a time."""
    proxy = FaultyS3(s3_endpoint)
    storage = Storage(s3_uri.replace(urllib.parse.quote(s3_endpoint), urllib.parse.quote(proxy.endpoint)))
    storage.write_bytes("x.tar", tar_of(200, 30_000))
    before = proxy.requests
    with storage.open("x.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        contents = (tar.extractfile(member) for member in tar)
        assert sum(len(content.read()) for content in contents if content) == 200 * 30_000
    assert proxy.requests - before < 15
    proxy.go_away()


def test_missing_objects_and_short_ranges(place):
    storage = Storage(place)
    storage.write_bytes("a.bin", b"12345")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("b.bin")
    with pytest.raises(EOFError, match="short"):
        storage.read_range("a.bin", 3, 9)
    storage.delete("b.bin")
    storage.delete("a.bin")
    assert storage.size("a.bin") is None


def test_publish_says_what_is_there(place, tmp_path):
    storage, folder = Storage(place), tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_bytes(b"w" * 10)
    expected = hash_local(folder)
    storage.write_bytes("models/m/stale", b"from before")
    output = storage.publish(folder, "models/m")
    assert (output.sha256, output.bytes) == (expected, 12)
    assert storage.list("models/m") == {"config.json": 2, "sub/weights": 10}
    assert storage.hash_object("models/m") == expected
    assert hash_local(storage.fetch_folder("models/m", tmp_path / "copy")) == expected
    assert storage.hash_object("models/none") is None


def test_pickles_without_its_connection(place):
    storage = Storage(place)
    storage.write_bytes("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).read_bytes("a") == b"1"  # noqa: S301 - our own


def test_replacing_never_shows_a_mixture(tmp_path):
    """A reader in a loop sees only whole objects while a writer replaces them and is killed in the middle of it."""
    storage, size = Storage(str(tmp_path)), 1 << 20
    code = (
        "import sys; from dap_engine.engine.storage.storage import Storage; s = Storage(sys.argv[1])\n"
        f"while True:\n for c in b'abcdef': s.write_bytes('x', bytes([c]) * {size})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        while storage.size("x") is None:
            pass
        for _ in range(200):
            data = storage.read_bytes("x")
            assert len(data) == size
            assert data == data[:1] * size
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert len(storage.read_bytes("x")) == size
    storage.clean_scratch()
    assert list((tmp_path / ".tmp").iterdir()) == []


def killed_worker(code, *arguments):
    """Runs Python that prints a path and waits; kills it there."""
    command = [sys.executable, "-c", f"{code}\nprint(flush=True); import time; time.sleep(60)", *arguments]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert worker.stdout
    worker.stdout.readline()
    worker.kill()
    worker.wait()


def test_what_killed_processes_leave_is_swept_and_nothing_else(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    storage = Storage(place)
    places = [tmp_path / "temp", *([Path(place) / ".tmp"] if storage.is_local else [])]
    killed_worker(
        "import sys, tempfile, pathlib\n"
        "from dap_engine.engine.storage.storage import Storage\n"
        "from dap_engine.engine.storage.scratch import make_scratch\n"
        "scratch = Storage(sys.argv[1]).scratch(); (scratch.__enter__() / 'x').write_bytes(b'1')\n"
        "make_scratch(pathlib.Path(tempfile.gettempdir()))",
        place,
    )
    kept = [parent / name for parent in places for name in (f"dap-{socket.gethostname()}x-1-a", "dap", "other-1-2")]
    for folder in kept:
        folder.mkdir()
    with storage.scratch() as own:
        left = {path for parent in places for path in parent.iterdir()} - {own, *kept}
        assert len(left) == 2
        storage.clean_scratch()
        assert {path for parent in places for path in parent.iterdir()} == {own, *kept}


def test_a_fetched_folder_is_whole_or_not_there(s3_uri, tmp_path):
    storage = Storage(s3_uri)
    for name in ("a", "b", "c"):
        storage.write_bytes(f"m/{name}", name.encode())
    stale, real = iter([True]), Storage.open

    def broken(self, path):
        if path == "m/c" and next(stale, False):
            raise StorageError("gone")
        return real(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "open", broken)
        with pytest.raises(StorageError, match="gone"):
            storage.fetch_folder("m", tmp_path / "to" / "m")
        assert list((tmp_path / "to").iterdir()) == []
        assert len(list(storage.fetch_folder("m", tmp_path / "to" / "m").iterdir())) == 3


def test_keys_in_a_uri_are_in_no_message(s3_uri):
    storage = Storage(s3_uri.replace("s3://", "s3://test:geheim@"))
    storage.write_bytes("a", b"1")
    assert Storage(s3_uri).read_bytes("a") == b"1"
    with pytest.raises(EOFError) as error:
        storage.read_range("a", 0, 9)
    with pytest.raises(StorageError) as outside:
        storage.locate("../x")
    assert "geheim" not in str(error.value) + str(outside.value)


def test_the_options_of_a_uri_reach_pyarrow():
    query = "endpoint_override=localhost:9&scheme=http&region=eu-south-2&tls_ca_file_path=/x.pem"
    store, path = open_store(Place.parse(f"s3://me:secret@bucket/a/b/?{query}"))
    _, (options,) = store.filesystem.__reduce__()
    expected = {"endpoint_override": "localhost:9", "scheme": "http", "region": "eu-south-2", "access_key": "me"}
    assert path == "bucket/a/b"
    assert {**options, **expected, "secret_key": "secret", "tls_ca_file_path": "/x.pem"} == options
    with pytest.raises(StorageError, match=r"s3://bucket/x.*: cannot be opened: .*typo"):
        Storage("s3://bucket/x?endpoint_override=localhost:9&typo=1").list("")


def test_gcs_leaves_the_waiting_to_us():
    for uri, seconds in [("gs://anonymous@b/x", 1), ("gs://anonymous@b/x?retry_limit_seconds=7&scheme=http", 7)]:
        _, (options,) = open_store(Place.parse(uri))[0].filesystem.__reduce__()
        assert options["retry_time_limit"].total_seconds() == seconds


def test_an_unknown_scheme_is_one_clear_line():
    with pytest.raises(StorageError, match="nosuch://x: cannot be opened"):
        Storage("nosuch://x").list("")


def test_the_roomiest_folder_may_be_written_to(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).mkdir()
    folders = [str(tmp_path / name) for name in "abc"]
    free = dict(zip(folders, (1, 3, 2), strict=True))
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    assert scratch.roomiest(folders) == folders[1]
    monkeypatch.setattr(scratch.os, "access", lambda folder, _: folder != folders[1])
    assert scratch.roomiest(folders) == folders[2]
    monkeypatch.setattr(scratch.os, "access", lambda *_: False)
    assert scratch.roomiest(folders) == folders[0]


def test_endpoint_and_profile_of_s3_are_those_of_the_environment(s3_endpoint, s3_uri, tmp_path):
    Storage(s3_uri).write_bytes("x", b"found")
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = test\naws_secret_access_key = test\n")
    usual = {"AWS_PROFILE": "mine", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    usual |= {"AWS_ENDPOINT_URL": f"http://{s3_endpoint}", "AWS_DEFAULT_REGION": "us-east-1"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    code = "import sys; from dap_engine.engine.storage.storage import Storage; s = Storage(sys.argv[1])\n"
    code += "s.write_bytes('y', s.read_bytes('x')); print(s.peek('y'), *s.list(''))"
    command = [sys.executable, "-c", code, s3_uri.partition("?")[0]]
    said = subprocess.run(command, env=others | usual, capture_output=True, text=True, check=True)
    assert said.stdout == "b'found' x y\n"
