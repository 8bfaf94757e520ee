"""Disks that run full, turn read-only, or fail while somebody writes: one clear line, nothing half-written, resume."""

import errno
import hashlib
import os
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage import faults
from dap_engine.engine.storage.storage import Storage, StorageError
from tests.engine.steps import RECIPE, STEPS

SHARDS = 5 * 3 + 1  # of a run: numbers, products, sums; total


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch):
    monkeypatch.setattr(faults, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(faults, "RETRY_FOR_S", 0.05)


@contextmanager
def small_disk(place: Path, kilobytes: int):
    """A disk of its own."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no right to mount a disk: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a failed writer may still be open


def change(place, options):
    """Changes a mounted disk: size=4m, ro, rw."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def run(place):
    graph = build_graph(load_recipe(RECIPE, STEPS, ["count.total_shards=5", "count.per_shard=60"]).nodes)
    return Runner(graph, RunDir(str(place)), InProcessExecutor, Progress()).run(graph.nodes)


def failures(place):
    """What a run that must fail says, line by line: of its shards, or of itself where not even those can be told."""
    try:
        return [outcome.error for outcome in run(place).unfinished if outcome.status == "failed"]
    except StorageError as error:
        return [str(error)]


def content(place):
    """All that a run has made, by path."""
    storage = Storage(str(place))
    return {path: storage.read_bytes(path) for path in storage.list("") if not path.startswith(("receipts/", ".tmp/"))}


def receipts(place):
    directory = RunDir(str(place))
    return [receipt for column in directory.columns() for receipt in directory.receipts(column).values()]


def unfinished(place):
    """What is left in the scratch of a run."""
    return [path for path in (place / ".tmp").glob("*") if path.name != "locks"]


def test_a_run_waits_for_room_on_a_full_disk(tmp_path, monkeypatch):
    run(tmp_path / "calm")
    monkeypatch.setattr(faults, "RETRY_FOR_S", 20.0)
    with small_disk(tmp_path / "disk", 132) as place:
        janitor = threading.Timer(1.0, change, (place, "size=8m"))
        janitor.start()
        assert failures(place) == []
        janitor.join()
        assert content(place) == content(tmp_path / "calm")


@pytest.mark.parametrize("kilobytes", [60, 132, 300, 620])  # full here and there in a shard
def test_a_run_on_a_disk_that_runs_full_fails_clearly_and_resumes(tmp_path, kilobytes):
    run(tmp_path / "calm")
    with small_disk(tmp_path / "disk", kilobytes) as place:
        lines = failures(place)
        assert lines
        assert any(str(place) in line and "disk full" in line for line in lines)
        assert all("\n" not in line for line in lines)
        for receipt in receipts(place):
            assert hashlib.sha256((place / receipt.output.path).read_bytes()).hexdigest() == receipt.output.sha256
            assert receipt.drops == {}  # no sample is blamed for the disk
        assert unfinished(place) == []
        change(place, "size=16m")
        assert run(place).unfinished == []
        assert len(receipts(place)) == SHARDS
        assert content(place) == content(tmp_path / "calm")


def test_a_disk_without_any_room_is_one_line(tmp_path):
    with small_disk(tmp_path / "disk", 100) as place:
        with (place / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"0" * 4096) == 4096 and os.statvfs(place).f_bavail:
                pass
        with pytest.raises(StorageError, match=f"^{place}.*: disk full$"):
            Storage(str(place)).write_bytes("run.yaml", b"name: x")
        assert all("disk full" in line or "not complete" in line for line in failures(place))
        (place / "filler").unlink()
        change(place, "size=16m")
        assert run(place).unfinished == []


def test_a_read_only_disk_is_one_line_and_can_still_be_read(tmp_path):
    with small_disk(tmp_path / "disk", 16 << 10) as place:
        run(place)
        before, storage = content(place), Storage(str(place))
        change(place, "ro")
        for write in (lambda: storage.write_bytes("x", b"1"), lambda: storage.delete("total/all.parquet")):
            with pytest.raises(StorageError, match=f"^{place}.*: read-only file system$"):
                write()
        assert content(place) == before
        assert run(place).worked == 0  # all is done, and nothing needs writing
        change(place, "rw")
        storage.delete("total/all.parquet")
        change(place, "ro")
        assert any("read-only" in line for line in failures(place))


def test_a_folder_without_rights_is_one_line(tmp_path):
    storage = Storage(str(tmp_path))
    storage.write_bytes("a/b", b"1")
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "a").chmod(0o500)
    with pytest.raises(StorageError, match=f"^{tmp_path}/a/b: permission denied$"):
        storage.write_bytes("a/b", b"2")
    assert storage.read_bytes("a/b") == b"1"


def test_a_full_disk_under_a_writer_of_its_own_is_told_as_the_storages(tmp_path):
    """tarfile's error has no file name."""
    storage = Storage(str(tmp_path / "run"))
    told = pytest.raises(StorageError, match=f"^{tmp_path}/run: disk full$")
    with told, storage.scratch(), Path("/dev/full").open("wb", buffering=0) as full:
        tarfile.TarFile(fileobj=full, mode="w").addfile(tarfile.TarInfo("x"))
    assert storage.list("") == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_disks_do_is_told_in_words(place, number):
    with pytest.raises(StorageError) as told, Storage(place).scratch():
        raise OSError(number, os.strerror(number))
    assert "Errno" not in str(told.value)
    assert "\n" not in str(told.value)


def test_errors_of_others_pass_through_scratch(place):
    for error in (PermissionError(errno.EACCES, "no", "/elsewhere/video.mp4"), FileNotFoundError("x"), ValueError("x")):
        with pytest.raises(type(error)) as raised, Storage(place).scratch():
            raise error
        assert raised.value is error
