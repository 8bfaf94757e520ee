"""The two libraries that `extract.decoder` names, side by side: frames of one video, on one core."""

from collections.abc import Iterator
from pathlib import Path

from dap_engine.models.video.frames import Library, sample_frames
from tests.benchmarks.material import FPS, SECONDS, footage
from tests.benchmarks.measure import Result, one_core, paired, timed

HEIGHT, SOURCE_HEIGHT = 512, 1024


def benchmark(repeats: int) -> Iterator[Result]:
    """All frames, and one every two seconds."""
    video = footage(SOURCE_HEIGHT)
    with one_core():
        yield from (_side_by_side(video, every_s, repeats) for every_s in (1 / FPS, 2.0))


def _side_by_side(video: Path, every_s: float, repeats: int) -> Result:
    def read(library: Library) -> None:
        for _ in sample_frames(str(video), every_s, HEIGHT, decoder=library):
            pass

    pair, frames = paired(timed(lambda: read("pyav")), timed(lambda: read("decord")), repeats), SECONDS / every_s
    return Result(
        f"PyAV, {SOURCE_HEIGHT}×{2 * SOURCE_HEIGHT} H.264 at {FPS} fps, 1 frame per {every_s:g} s",
        "decord2, the same frames, both on one core",
        f"{pair.rate:.2f}",
        "",
        f"{frames / pair.work_s:.1f} against {frames / pair.against_s:.1f} frames/s of {HEIGHT}×{2 * HEIGHT}",
    )
