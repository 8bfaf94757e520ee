"""What there is to measure: one file a subject, each with a function `benchmark(repeats)` that yields its lines."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

from tests.benchmarks.measure import Result

SUBJECTS = (
    *("extract", "sparse", "horizon", "ray_map", "chain", "resume", "scale", "driver", "assignment"),
    *("loader", "depth_png", "label", "cards", "inference", "losses", "patches", "decoders", "video_decoders"),
    *("cost", "report"),
)


def measure(subject: str, repeats: int) -> Iterator[Result]:
    """The lines of a subject, from a process of its own: none inherits another's threads, caches and memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        yield from process.submit(_measure_here, subject, repeats).result()


def _measure_here(subject: str, repeats: int) -> list[Result]:
    multiprocessing.set_start_method(None, force=True)  # being spawned, it would spawn what a user's process forks
    return list(import_module(f"tests.benchmarks.{subject}").benchmark(repeats))
