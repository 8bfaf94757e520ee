"""Whatever happens to the decoding process, the worker gets an error with a code and goes on."""

import os
import signal
import threading
import time

import av
import numpy as np
import pytest

from dap_engine.models.video.decoder import Decoder
from dap_engine.models.video.file import VideoError
from dap_engine.models.video.frame_ring import SLOTS
from dap_engine.models.video.frames import sample_frames
from tests.footage import grey_ramp, panorama, ramp_index, without_picture, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("video") / "v.mp4", [panorama(128, turn=i / 9) for i in range(40)]))


def warm_decoder(video: str, timeout_s: float) -> Decoder:
    """Its child is up, which may take seconds on a busy machine."""
    decoder = Decoder()
    list(decoder.sample_frames(video, 1, 32))
    decoder.timeout_s = timeout_s
    return decoder


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


def test_frames_that_do_not_come_out_are_named(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", grey_ramp(40, 64), gop=1)
    video = str(without_picture(whole, tmp_path / "v.mp4", 17))
    with Decoder() as decoder:
        for sample in (sample_frames, decoder.sample_frames):
            missing: list[int] = []
            frames = list(sample(video, 0.01, 64, on_missing=missing.append))
            assert missing == [17]
            assert [frame.frame_index for frame in frames] == [index for index in range(40) if index != 17]


def test_after_a_damaged_packet_pictures_are_taken_from_the_next_key_frame_on(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", grey_ramp(46, 64), gop=5)
    missing: list[int] = []
    frames = sample_frames(str(without_picture(whole, tmp_path / "v.mp4", 18)), 0.01, 64, on_missing=missing.append)
    assert {frame.frame_index: ramp_index(frame.rgb) for frame in frames} == {
        index: index for index in range(46) if index not in missing
    }
    assert 1 <= len(missing) <= 5
    assert set(missing) <= set(range(15, 20))


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
    with warm_decoder(video, timeout_s=1) as decoder:
        frames = decoder.sample_frames(video, 0.1, 512)
        next(frames)
        stopped = decoder.pid
        os.kill(stopped, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(VideoError, match="decode_timeout"):
            list(frames)
        assert time.monotonic() - started < 30
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)


def test_a_child_that_never_begins_is_killed(video):
    with warm_decoder(video, timeout_s=1) as decoder:
        os.kill(decoder.pid, signal.SIGSTOP)
        with pytest.raises(VideoError, match="decode_timeout"):
            next(decoder.sample_frames(video, 1, 32))
        decoder.timeout_s = 60
        assert list(decoder.sample_frames(video, 1, 32))


def test_a_slow_consumer_is_no_silent_child(video):
    with warm_decoder(video, timeout_s=2) as decoder:
        frames = decoder.sample_frames(video, 1, 32)
        next(frames)
        time.sleep(2.5)
        assert len(list(frames)) == 3


def test_a_child_that_grows_is_killed(video):
    with Decoder(memory_bytes=1 << 20) as decoder, pytest.raises(VideoError, match="decode_memory"):
        [time.sleep(0.1) for _ in decoder.sample_frames(video, 0.1, 1024)]


def status_mb(pid: int | None, field: str) -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def test_only_the_video_that_needs_too_much_memory_is_lost(video, tmp_path):
    """The same limit is enough for small pictures, before and after; decoders hold several of large ones."""
    large = [np.full((1280, 2560, 3), 20 * index, np.uint8) for index in range(8)]
    greedy = str(write_video(tmp_path / "large.mp4", large))
    with Decoder() as decoder:
        list(decoder.sample_frames(video, 1, 32))
        enough = int(status_mb(decoder.pid, "VmHWM") + 16) << 20
    with Decoder(memory_bytes=enough) as decoder:
        assert len(list(decoder.sample_frames(video, 1, 32))) == 4
        with pytest.raises(VideoError, match="decode_memory"):
            [time.sleep(0.3) for _ in decoder.sample_frames(greedy, 0.1, 32)]
        assert len(list(decoder.sample_frames(video, 1, 32))) == 4


def test_a_child_may_print_much_before_it_is_ready(tmp_path, monkeypatch):
    """More than a pipe holds."""
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, bytes(1 << 18))")
    monkeypatch.syspath_prepend(tmp_path)
    with Decoder() as decoder:
        decoder.start()
        assert decoder.pid


def test_a_child_that_cannot_start_says_why_in_any_bytes(tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("import os; os.write(2, b'\\xff'); raise ImportError('no av')")
    monkeypatch.syspath_prepend(tmp_path)
    with Decoder() as decoder, pytest.raises(RuntimeError, match=r"(?s)does not start.*ImportError: no av"):
        decoder.start()


def test_a_few_frames_are_decoded_ahead_and_none_is_overwritten(tmp_path):
    video = str(write_video(tmp_path / "v.mp4", grey_ramp(30, 64)))
    with Decoder() as decoder:
        frames = decoder.sample_frames(video, 0.1, 64)
        held = [next(frames)]
        time.sleep(0.5)
        held += frames
    assert [ramp_index(frame.rgb) for frame in held] == list(range(30))
    assert SLOTS < 30


def test_killed_children_leave_no_memory_behind(video):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, shared = open_files(), set(os.listdir("/dev/shm"))
    with Decoder() as decoder:
        for _ in range(3):
            frames = decoder.sample_frames(video, 0.1, 64)
            next(frames)
            os.kill(decoder.pid, signal.SIGKILL)
            with pytest.raises(VideoError, match="decode_crashed"):
                list(frames)
    assert open_files() == before
    assert set(os.listdir("/dev/shm")) <= shared


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


def test_memory_is_flat_in_the_length(tmp_path):
    short = str(write_video(tmp_path / "short.mp4", grey_ramp(40), gop=20))
    long = str(write_video(tmp_path / "long.mp4", grey_ramp(40) * 25, gop=20))
    with Decoder() as decoder:
        assert sum(1 for _ in decoder.sample_frames(short, 0.1, 256)) == 40
        peak_mb = status_mb(decoder.pid, "VmHWM")
        assert sum(1 for _ in decoder.sample_frames(long, 0.1, 256)) == 1000
        assert status_mb(decoder.pid, "VmHWM") < peak_mb + 8


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_memory_is_bounded_for_8k(tmp_path, codec):
    """A picture of 8K takes 42 MiB in the decoder, which holds some; of RGB there is only what was asked for."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 7680, 3840, "yuv420p"
        for index in range(12):
            grey = np.full((3840, 7680), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        container.mux(stream.encode(None))
    with Decoder() as decoder:
        assert sum(1 for _ in decoder.sample_frames(str(path), 0.1, 1024)) == 12
        assert status_mb(decoder.pid, "VmHWM") < 1024
