import os
import pickle
import signal
import subprocess
import sys

import pytest

from engine.storage import Storage, StorageError, hash_local


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
        "import sys; from engine.storage import Storage; s = Storage(sys.argv[1])\n"
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
    storage.sweep_scratch()
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_an_unknown_scheme_is_one_clear_line():
    with pytest.raises(StorageError, match="nosuch://x: cannot be opened"):
        Storage("nosuch://x").list("")
