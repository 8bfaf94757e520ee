"""Few frames of long footage: extraction of one frame every two seconds, against ffmpeg writing the same as JPEGs."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import simplejpeg

from dap_engine.stages.extract import Extract
from dap_engine.stages.plan import Plan
from tests.benchmarks.material import FPS, SECONDS, SHARD, finished_run, footage, shard_work
from tests.benchmarks.measure import Result, one_core, paired, timed

HEIGHT, EVERY_S, SOURCE_HEIGHT = 512, 2, 1920
VIDEOS = 4  # of a shard, which holds more as a rule: its commit is not what is measured


def benchmark(repeats: int) -> Iterator[Result]:
    """Of 4K H.264 with a key frame every two seconds, all on one core."""
    cv2.setNumThreads(1)
    video, ffmpeg = footage(SOURCE_HEIGHT), shutil.which("ffmpeg")
    with TemporaryDirectory() as folder, one_core():
        videos = [Path(folder) / "videos" / f"{number}.mp4" for number in range(VIDEOS)]
        videos[0].parent.mkdir()
        for place in videos:
            place.symlink_to(video)
        against = timed(lambda: [_by_ffmpeg(ffmpeg, video) if ffmpeg else _by_pyav(video) for video in videos])
        run = finished_run(Path(folder) / "run", Plan(videos=f"{folder}/videos"))
        stage = Extract(every_s=EVERY_S, height=HEIGHT, near_duplicate_bits=None)  # it is one panorama, turned
        with shard_work(stage, run, {"run": run.uri}) as work:
            pair = paired(timed(work), against, repeats)
        kept = run.receipts("frames")[SHARD].samples_out
    if kept != VIDEOS * SECONDS / EVERY_S:
        raise RuntimeError(f"extract kept {kept} frames of {video}")
    yield Result(
        f"extract, {SOURCE_HEIGHT}×{2 * SOURCE_HEIGHT} H.264, key frames 2 s apart, 1 frame per {EVERY_S} s",
        f"{'ffmpeg' if ffmpeg else 'PyAV, no ffmpeg here,'} -vf fps=1/2,scale to JPEGs, both on one core",
        f"{pair.rate:.1f}",
        "≥ 5",
        f"{kept / pair.work_s:.1f} against {kept / pair.against_s:.1f} frames/s of {HEIGHT}×{2 * HEIGHT}",
    )


def _by_ffmpeg(ffmpeg: str, video: Path) -> None:
    filters = f"fps=1/{EVERY_S},scale={2 * HEIGHT}:{HEIGHT}"
    command = [ffmpeg, "-v", "error", "-y", "-i", video, "-vf", filters, "-q:v", "2", f"{video}.%04d.jpg"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _by_pyav(video: Path) -> None:
    """What ffmpeg does: everything is decoded, one picture in so many kept."""
    with av.open(str(video)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number % (FPS * EVERY_S) == 0:
                rgb = frame.reformat(2 * HEIGHT, HEIGHT, "rgb24").to_ndarray()
                simplejpeg.encode_jpeg(rgb, 95, colorspace="RGB", colorsubsampling="420")
