"""The horizon check of one frame, projection and tilt, and the JPEG that is made of it: processor time of each."""

import time
from collections.abc import Callable, Iterator

import cv2
import simplejpeg
import torch

from dap_engine.models.data.images import resize_rgb
from dap_engine.models.horizon.check import PanoramaCheck
from dap_engine.models.horizon.projection import measure_projection
from dap_engine.models.horizon.projection_measures import canvas
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.benchmarks.measure import Clock, Result, one_core, paired

HEIGHT = 512
LIMIT_MS = 8
FRAMES = 8  # of one round, level as most are; one that leans takes a second look


def benchmark(repeats: int) -> Iterator[Result]:
    """Milliseconds of one frame."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    small = labelled_panoramas(seed=990, count=FRAMES, look="field", height=256)
    frames = [resize_rgb(panorama.rgb, HEIGHT, 2 * HEIGHT) for panorama in small]
    checker = PanoramaCheck()
    with one_core():
        check = processor_time(lambda: [checker.check(rgb, measure_projection(rgb)) for rgb in map(canvas, frames)])
        jpeg = processor_time(
            lambda: [simplejpeg.encode_jpeg(rgb, 95, colorspace="RGB", colorsubsampling="420") for rgb in frames]
        )
        pair = paired(check, jpeg, repeats)
    milliseconds, jpeg_milliseconds = 1000 * min(pair.work) / FRAMES, 1000 * min(pair.against) / FRAMES
    yield Result(
        f"horizon check of a frame of {HEIGHT}×{2 * HEIGHT}",
        "its JPEG, both on one core",
        f"{milliseconds:.1f} ms",
        f"≤ {LIMIT_MS} ms",
        f"{milliseconds:.1f} against {jpeg_milliseconds:.1f} ms, each in its fastest round",
    )


def processor_time(function: Callable[[], object]) -> Clock:
    """A clock around a function of one thread, which does not count what other processes do meanwhile."""

    def clock() -> float:
        started = time.thread_time()
        function()
        return time.thread_time() - started

    return clock
