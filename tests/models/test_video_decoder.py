"""Whatever happens to the decoding process, the worker gets an error with a code and goes on."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from models.decoder import Decoder
from models.video import VideoError, sample_frames
from tests.footage import grey_ramp, panorama, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("video") / "v.mp4", [panorama(128, turn=i / 9) for i in range(40)]))


def test_same_frames_as_in_process_and_one_child_for_many_videos(video):
    with Decoder() as decoder:
        pids = set()
        for every_s in (0.5, 1.0):
            apart = list(decoder.sample_frames(video, every_s, 64))
            here = list(sample_frames(video, every_s, 64))
            assert [frame.timestamp_s for frame in apart] == [frame.timestamp_s for frame in here]
            assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(apart, here, strict=True))
            pids.add(decoder.pid)
        assert len(pids) == 1


def test_errors_keep_the_child(video, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing like a video")
    with Decoder() as decoder:
        for _ in range(2):
            with pytest.raises(VideoError, match="unreadable"):
                list(decoder.sample_frames(str(tmp_path / "bad.mp4"), 1, 32))
        pid = decoder.pid
        assert list(decoder.sample_frames(video, 1, 32))
        assert decoder.pid == pid


def test_a_killed_child_is_replaced(video):
    with Decoder() as decoder:
        frames = decoder.sample_frames(video, 0.1, 512)
        next(frames)
        os.kill(decoder.pid, signal.SIGKILL)
        with pytest.raises(VideoError, match="decode_crashed"):
            list(frames)
        assert len(list(decoder.sample_frames(video, 1, 32))) == 4


def test_a_silent_child_is_killed(video):
    with Decoder(timeout_s=0.5) as decoder:
        frames = decoder.sample_frames(video, 0.1, 512)
        next(frames)
        stopped = decoder.pid
        os.kill(stopped, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(VideoError, match="decode_timeout"):
            list(frames)
        assert time.monotonic() - started < 5
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)


def test_a_slow_consumer_is_no_silent_child(video):
    with Decoder(timeout_s=1.5) as decoder:
        frames = decoder.sample_frames(video, 1, 32)
        next(frames)
        time.sleep(2)
        assert len(list(frames)) == 3


def test_a_child_that_grows_is_killed(video):
    with Decoder(memory_bytes=1 << 20) as decoder, pytest.raises(VideoError, match="decode_memory"):
        [time.sleep(0.1) for _ in decoder.sample_frames(video, 0.1, 1024)]


def test_leaving_early_leaves_nothing_behind(video):
    before = threading.active_count()
    with Decoder() as decoder:
        frames = decoder.sample_frames(video, 0.1, 64)
        next(frames)
        child = decoder.pid
        frames.close()
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        assert threading.active_count() == before
        assert list(decoder.sample_frames(video, 1, 32))


def test_a_bug_is_no_bad_video(video):
    with Decoder() as decoder, pytest.raises(RuntimeError, match="TypeError"):
        list(decoder.sample_frames(video, "often", 32))  # type: ignore[arg-type]


def test_memory_stays_flat(tmp_path):
    video = str(write_video(tmp_path / "v.mp4", grey_ramp(40) * 20, gop=20))
    with Decoder(memory_bytes=1 << 30) as decoder:
        assert sum(1 for _ in decoder.sample_frames(video, 0.1, 256)) == 800
