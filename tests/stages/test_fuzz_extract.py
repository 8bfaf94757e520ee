"""Damaged files of every container: each gives rows or a drop, and its healthy neighbours what they always give."""

import re
import time
from pathlib import Path

import pytest

from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.steps.step import StageContext
from dap_engine.engine.storage.storage import Storage
from dap_engine.stages.extract import Extract
from tests.footage import panorama, write_video
from tests.mutations import mutations

CODECS = {
    "mp4": ("libx264", "libx265"),
    "mov": ("libx264", "libx265"),
    "webm": ("libvpx-vp9", "libsvtav1"),
    "mkv": ("libx264", "libsvtav1"),
}
READING = {
    *("empty_file", "unreadable", "truncated", "no_video_stream", "unsupported_codec", "too_small", "too_large"),
    *("encrypted", "no_frames", "decode_failed", "decode_timeout", "decode_memory", "decode_crashed"),
}
JUDGING = {
    *("wrong_aspect", "blank", "black", "black_bands", "perspective", "open_seam", "unstretched_poles", "partial"),
    *("cubemap", "fisheye", "dual_fisheye", "stereo_top_bottom", "stereo_side_by_side", "stereo_other", "mesh"),
    *("frozen", "blurred", "near_duplicate", "title_card", "transition", "top_cut", "bottom_cut"),
}
TIMEOUT_S = 10.0
FRAMES = [panorama(64, seed=index) for index in range(10)]


@pytest.fixture(scope="module")
def stage():
    extract = Extract(every_s=0.3, height=32, timeout_s=TIMEOUT_S, memory_gb=2)
    extract.setup(StageContext(Storage("/"), extract.assets()))
    yield extract
    extract.teardown()


@pytest.mark.parametrize("container", CODECS)
def test_damaged_files(stage, tmp_path, container):
    survive(stage, tmp_path, container, count=25, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("container", CODECS)
def test_thousands_of_damaged_files(stage, tmp_path, container):
    survive(stage, tmp_path, container, count=2000, seed=1)


def survive(stage: Extract, folder: Path, container: str, count: int, seed: int) -> None:
    """Puts each damaged file between two healthy ones; a failure leaves the file in the folder."""
    healthy = write_video(folder / "healthy.mp4", FRAMES)
    expected = outputs_of(stage, healthy)
    assert all(isinstance(output, Row) for output in expected)
    for codec in CODECS[container]:
        whole = write_video(folder / f"whole.{container}", FRAMES, codec=codec, gop=4).read_bytes()
        damaged = folder / f"damaged.{container}"
        for data in mutations(whole, -(-count // len(CODECS[container])), seed):
            damaged.write_bytes(data)
            started = time.monotonic()
            outputs = outputs_of(stage, damaged)
            assert time.monotonic() - started < 2 * TIMEOUT_S
            assert_accounted(outputs)
            assert outputs_of(stage, healthy) == expected


def outputs_of(stage: Extract, video: Path) -> list[Row | Drop]:
    plan = {"uri": str(video), "bytes": 1, "split": "train"}
    return list(stage.process([Sample(video.stem, {"plan": plan})]))


def assert_accounted(outputs: list[Row | Drop]) -> None:
    """Something is told, in order, of the whole video or of its frames one by one."""
    keys = [output.key for output in outputs]
    assert keys == sorted(set(keys))
    assert keys == ["damaged"] or all(re.fullmatch(r"damaged-\d{8}", key) for key in keys)
    assert keys
    for output in outputs:
        if isinstance(output, Drop):
            assert output.code in READING | JUDGING, output
            assert "\n" not in output.detail
