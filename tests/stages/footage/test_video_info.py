"""What the headers of videos tell: length and identity, of any file, anywhere."""

import os
import signal

import pytest
from pyarrow import fs

from dap_engine.stages.footage import video_info as module
from dap_engine.stages.footage.video_info import VideoInfo, read_video_info, read_video_infos, read_video_infos_in_child
from tests.footage import grey_ramp, write_video


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "v.mp4", grey_ramp(30), fps=10)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov", "v.avi"])
def test_length_from_the_header(tmp_path, name):
    path = write_video(tmp_path / name, grey_ramp(30), fps=10)
    info = read_video_info(str(path))
    assert info.seconds == pytest.approx(3, abs=0.15)
    assert info.bytes == path.stat().st_size
    assert len(info.content) == 32


def test_a_file_uri_and_an_object_are_the_same_file(video, s3_uri):
    filesystem, root = fs.FileSystem.from_uri(s3_uri)
    fs.copy_files(str(video), f"{root}/v.mp4", destination_filesystem=filesystem)
    base, _, options = s3_uri.partition("?")
    assert read_video_info(f"{base}/v.mp4?{options}") == read_video_info(str(video)) == read_video_info(video.as_uri())


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 1000, os.urandom(5000)])
def test_what_is_no_video_has_a_size_and_no_length(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    info = read_video_info(str(tmp_path / "x.mp4"))
    assert (info.seconds, info.bytes) == (None, len(content))


def test_what_is_not_there_has_no_facts(tmp_path):
    assert read_video_info(str(tmp_path / "gone.mp4")) == VideoInfo()
    assert read_video_info("nosuch://bucket/x.mp4") == VideoInfo()
    assert read_video_info(str(tmp_path)) == VideoInfo()


def test_content_tells_files_of_one_size_apart(tmp_path):
    for name, place in (("a", 0), ("b", 100_000), ("c", 199_999)):
        data = bytearray(200_000)
        data[place] = 1
        (tmp_path / name).write_bytes(data)
    contents = {info.content for info in read_video_infos([str(tmp_path / name) for name in "abc"])}
    assert len(contents) == 3


def test_a_child_finds_the_same(video, tmp_path):
    uris = [str(video), str(tmp_path / "gone.mp4")]
    assert read_video_infos_in_child(uris) == read_video_infos(uris)


def _die_over_bad_ones(parent, uris):
    if "bad" in uris:
        os.kill(os.getpid(), signal.SIGSEGV)
    parent.send([{"seconds": 1.0, "bytes": 1, "content": "x"} for _ in uris])


def test_a_file_that_kills_the_child_costs_only_itself(monkeypatch):
    """A child that is killed over one file, as a broken demuxer would be."""
    monkeypatch.setattr(module, "_send_all", _die_over_bad_ones)
    found = read_video_infos_in_child(["a", "bad", "c", "d"])
    assert [info.seconds for info in found] == [1.0, None, 1.0, 1.0]


def _raise(parent, uris):
    raise ModuleNotFoundError("no module for it")


def test_an_exception_of_the_child_is_no_fault_of_the_files(monkeypatch):
    monkeypatch.setattr(module, "_send_all", _raise)
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ModuleNotFoundError: no module for it"):
        read_video_infos_in_child(["a", "b"])


def test_a_child_that_cannot_begin_is_no_fault_of_the_files(tmp_path, monkeypatch):
    (tmp_path / "psutil.py").write_text("raise ImportError('psutil is of another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ImportError: psutil is of another Python"):
        read_video_infos_in_child(["a", "b"])
