"""Videos to frame shards, against decord's decoding and the JPEG encoding of the same frames."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import decord
import simplejpeg

from models.images import resize_rgb
from stages.extract import Extract
from stages.plan import Plan
from tests.benchmarks.material import FPS, SECONDS, SHARD, finished_run, footage, shard_work
from tests.benchmarks.measure import Result, one_core, paired, timed

HEIGHT, EVERY_S, QUALITY = 512, 1, 95


def benchmark(repeats: int) -> Iterator[Result]:
    """Small footage, where the checks of a frame weigh most, and 4K."""
    cv2.setNumThreads(1)
    for height in (512, 1920):
        yield _extract(footage(height), height, repeats)


def _extract(video: Path, height: int, repeats: int) -> Result:
    with TemporaryDirectory() as folder, one_core():
        run = finished_run(Path(folder), Plan(videos=str(video)))
        stage = Extract(every_s=EVERY_S, height=HEIGHT, jpeg_quality=QUALITY)
        with shard_work(stage, run, {"run": run.uri}) as work:
            pair = paired(timed(work), timed(lambda: _decode_and_encode(str(video))), repeats)
        kept = run.receipts("frames")[SHARD].samples_out
    if kept != SECONDS / EVERY_S:
        raise RuntimeError(f"extract kept {kept} frames of {video}: the two sides did not do the same")
    size = f"{height}×{2 * height} H.264 at {FPS} fps, 1 frame per {EVERY_S} s"
    return Result(
        f"extract, {size}",
        "decord2 + resize + JPEG of these frames, both on one core",
        f"{pair.rate:.2f}",
        "≥ 0.85",
        f"{kept / pair.work_s:.1f} against {kept / pair.against_s:.1f} frames/s of {HEIGHT}×{2 * HEIGHT}",
    )


def _decode_and_encode(video: str) -> list[bytes]:
    indices = range(0, FPS * SECONDS, FPS * EVERY_S)
    frames = decord.VideoReader(video, num_threads=1).get_batch(indices).asnumpy()
    small = (resize_rgb(frame, HEIGHT, 2 * HEIGHT) for frame in frames)
    return [simplejpeg.encode_jpeg(rgb, QUALITY, colorspace="RGB", colorsubsampling="420") for rgb in small]
