"""Videos to frame shards, against decord's decoding and the JPEG encoding of the same frames.

Both sides have the same cores. On several, the reference decodes with as many threads and encodes its JPEGs side by
side; ours decodes in its child process, with as many threads, while it judges and encodes the frames before.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import decord
import numpy as np
import simplejpeg
import torch

from dap_engine.models.data.images import resize_rgb
from dap_engine.stages.extract import Extract
from dap_engine.stages.plan import Plan
from tests.benchmarks.material import FPS, SECONDS, SHARD, finished_run, footage, shard_work
from tests.benchmarks.measure import Result, one_core, paired, timed

HEIGHT, EVERY_S, QUALITY = 512, 1, 95
VIDEOS = 4  # of a shard, which holds more as a rule: its commit is not what is measured


def benchmark(repeats: int) -> Iterator[Result]:
    """Small footage, where the checks of a frame weigh most, 2K and 4K; on one core and on all."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for height in (512, 1024, 1920):
        for cores in sorted({1, os.cpu_count() or 1}):
            yield _extract(footage(height), height, cores, repeats)


def _extract(video: Path, height: int, cores: int, repeats: int) -> Result:
    with TemporaryDirectory() as folder, one_core() if cores == 1 else nullcontext():
        videos = [str(_copy(video, Path(folder) / "videos" / f"{number}.mp4")) for number in range(VIDEOS)]
        run = finished_run(Path(folder) / "run", Plan(videos=f"{folder}/videos"))
        stage = _with_all_checks(cores)
        with shard_work(stage, run, stage.assets()) as work:
            pair = paired(timed(work), timed(lambda: [_decode_and_encode(video, cores) for video in videos]), repeats)
        kept = run.receipts("frames")[SHARD].samples_out
    if kept != VIDEOS * SECONDS / EVERY_S:
        raise RuntimeError(f"extract kept {kept} frames of {video}: the two sides did not do the same")
    return Result(
        f"extract with all checks, {height}×{2 * height} H.264 at {FPS} fps, 1 frame per {EVERY_S} s",
        f"decord2 + resize + JPEG of these frames, both on {'one core' if cores == 1 else f'{cores} cores'}",
        f"{pair.rate:.2f}",
        "≥ 0.85",
        f"{kept / pair.work_s:.1f} against {kept / pair.against_s:.1f} frames/s of {HEIGHT}×{2 * HEIGHT}",
    )


def _copy(video: Path, place: Path) -> Path:
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(video)
    return place


def _with_all_checks(cores: int) -> Extract:
    """None of which drops a frame: the footage shows one place all the time, so what repeats has to be kept."""
    return Extract(
        every_s=EVERY_S,
        height=HEIGHT,
        max_tilt_deg=180,
        near_duplicate_bits=None,
        jpeg_quality=QUALITY,
        threads=cores,
    )


def _decode_and_encode(video: str, cores: int) -> list[bytes]:
    indices = range(0, FPS * SECONDS, FPS * EVERY_S)
    frames = decord.VideoReader(video, num_threads=cores).get_batch(indices).asnumpy()
    with ThreadPoolExecutor(cores) as threads:
        return list(threads.map(_encode, frames))


def _encode(frame: np.ndarray) -> bytes:
    rgb = resize_rgb(frame, HEIGHT, 2 * HEIGHT)
    return simplejpeg.encode_jpeg(rgb, QUALITY, colorspace="RGB", colorsubsampling="420")
