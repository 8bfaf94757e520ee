"""Claims of a run directory: of drivers elsewhere, which show that they live; of several that come at once."""

import dataclasses
import json
import os
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from dap_engine.engine.rundir import holder
from dap_engine.engine.rundir.holder import FOLDER, HeldError, Holder
from dap_engine.engine.storage.storage import Storage


def hold(place, said=None, **options):
    lines = [] if said is None else said
    return holder.hold(Storage(str(place)), "job b", say=lines.append, on_loss=lambda: lines.append("lost"), **options)


def claimed(place: Path, name: str = "a", silent_s: float = 0.0, **changes) -> Path:
    """The claim of a driver on another machine, last written so long ago."""
    there = {"system": "another", "host": "far", **changes}
    claim = place / FOLDER / f"{name}.json"
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(Holder.here("job a"), **there))))
    beat(claim, -silent_s)
    return claim


def beat(claim: Path, later_s: float = 0.0) -> None:
    os.utime(claim, (time.time() + later_s,) * 2)


def test_one_elsewhere_that_was_silent_long_enough_is_not_waited_for(tmp_path):
    claim, said = claimed(tmp_path, silent_s=31), []
    with hold(tmp_path, said):
        assert not claim.exists()
        assert len(os.listdir(tmp_path / FOLDER)) == 1
    assert (said, os.listdir(tmp_path / FOLDER)) == ([], [])


def test_one_elsewhere_is_waited_for_until_it_was_silent_long_enough(tmp_path):
    claimed(tmp_path, silent_s=28)
    said, began_s = [], time.monotonic()
    with hold(tmp_path, said):
        assert 1 < time.monotonic() - began_s < 10
    (line,) = said
    assert line.startswith("held by job a on far since 20")
    assert line.endswith("waiting until that has been silent for 30 s")


def test_one_elsewhere_that_lives_is_found_to_do_so(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "SILENCE_S", 1.5)
    claim, ended = claimed(tmp_path), threading.Event()

    def live() -> None:
        while not ended.wait(0.3):
            beat(claim)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(HeldError, match="held by job a on far since"), hold(tmp_path):
            pass
    finally:
        ended.set()
        thread.join()
    assert os.listdir(tmp_path / FOLDER) == ["a.json"]


def test_a_process_number_that_is_given_out_again_is_not_the_holder(tmp_path):
    own = Holder.here("job a")
    claimed(tmp_path, **{**dataclasses.asdict(own), "started_s": own.started_s - 100})
    with hold(tmp_path):
        pass
    claimed(tmp_path, **dataclasses.asdict(own))
    with pytest.raises(HeldError), hold(tmp_path):
        pass
    with hold(tmp_path, take_over=True):
        pass


def test_one_that_is_about_to_end_is_not_in_the_way(tmp_path):
    ending = subprocess.Popen(["sleep", "0.5"])
    process = psutil.Process(ending.pid)
    started_s = process.create_time() - psutil.boot_time()
    claimed(tmp_path, **{**dataclasses.asdict(Holder.here("job a")), "pid": ending.pid, "started_s": started_s})
    with hold(tmp_path):
        assert process.status() == psutil.STATUS_ZOMBIE
    ending.wait()


def test_of_several_that_come_at_once_one_is_let_in(place, monkeypatch):
    monkeypatch.setattr(holder, "_LOOK_EVERY_S", 0.05)
    inside, most, let_in, barrier = [0], [0], [], threading.Barrier(4)

    def come() -> None:
        barrier.wait()
        with ExitStack() as stack:
            try:
                stack.enter_context(hold(place))
            except HeldError:
                return
            let_in.append(1)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(1)
            inside[0] -= 1

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(let_in) >= 1) == ([1], True)
    assert Storage(place).list(FOLDER) == {}


def test_who_loses_the_run_is_told_even_if_it_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(holder, "BEAT_S", 0.1)
    said: list[str] = []
    with hold(tmp_path, said), hold(tmp_path, take_over=True):
        end_s = time.monotonic() + 10
        while not said and time.monotonic() < end_s:
            time.sleep(0.05)
    assert said == ["lost"]


def test_a_holder_shows_again_and_again_that_it_lives(place, monkeypatch):
    monkeypatch.setattr(holder, "BEAT_S", 0.1)
    storage = Storage(place)
    with hold(place):
        (first,) = storage.entries(FOLDER).values()
        time.sleep(1.5)  # times of an object store tick in seconds
        (second,) = storage.entries(FOLDER).values()
    assert second.mtime_ns > first.mtime_ns
