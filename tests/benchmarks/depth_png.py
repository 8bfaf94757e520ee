"""The depth PNG of one panorama: processor time of writing and reading it, against OpenCV's encoder at its level 1."""

import time
from collections.abc import Callable, Iterator

import cv2

from dap_engine.models.data.depth_png import decode_units, encode_units, quantise_depth
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.benchmarks.measure import Result, one_core

HEIGHT, MAPS = 512, 4
OPENCV = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)


def benchmark(repeats: int) -> Iterator[Result]:
    """Milliseconds of one map of 512×1024, each in its fastest round."""
    cv2.setNumThreads(1)
    panoramas = labelled_panoramas(seed=991, count=MAPS, look="synthetic", height=HEIGHT)
    depths_m = [panorama.depth_m for panorama in panoramas]
    units = [quantise_depth(depth_m) for depth_m in depths_m]
    written = [encode_units(one) for one in units]
    foreign = [cv2.imencode(".png", one, OPENCV)[1] for one in units]
    with one_core():
        encode_ms = _fastest_ms(lambda: [encode_units(one) for one in units], repeats)
        opencv_ms = _fastest_ms(lambda: [cv2.imencode(".png", one, OPENCV) for one in units], repeats)
        decode_ms = _fastest_ms(lambda: [decode_units(data) for data in written], repeats)
        read_ms = _fastest_ms(lambda: [cv2.imdecode(data, cv2.IMREAD_UNCHANGED) for data in foreign], repeats)
        quantise_ms = _fastest_ms(lambda: [quantise_depth(depth_m) for depth_m in depths_m], repeats)
    share = sum(map(len, written)) / sum(map(len, foreign))
    yield Result(
        f"depth PNG of {HEIGHT}×{2 * HEIGHT}: writing",
        "OpenCV's encoder, level 1, one core",
        f"{opencv_ms / encode_ms:.1f}",
        "≥ 5",
        f"{encode_ms:.1f} against {opencv_ms:.1f} ms, {share:.3f} of the bytes; quantising {quantise_ms:.1f} ms",
    )
    yield Result(
        f"depth PNG of {HEIGHT}×{2 * HEIGHT}: reading",
        "OpenCV's decoder, one core",
        f"{read_ms / decode_ms:.1f}",
        "",
        f"{decode_ms:.1f} against {read_ms:.1f} ms",
    )


def _fastest_ms(function: Callable[[], object], repeats: int) -> float:
    """Processor time of one map; other processes do not count."""

    def once() -> float:
        started = time.thread_time()
        function()
        return time.thread_time() - started

    return 1000 * min(once() for _ in range(3 * repeats + 1)) / MAPS
