"""Packed shards to training batches: against bare decoding, webdataset's pipeline, a card's pace, and from a store."""

import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import webdataset
from torch.utils.data import DataLoader

from dap_engine.engine.storage.storage import Storage
from dap_engine.models.data.decoding import Decoded
from dap_engine.models.data.depth_png import decode_units
from dap_engine.models.data.loader import PanoramaDataModule, finish
from dap_engine.models.data.shards import ShardSet
from dap_engine.stages.packing.index import read_index
from dap_engine.stages.training.settings import DataConfig
from tests.benchmarks.measure import Result, one_core, paired, timed
from tests.benchmarks.range_server import serving
from tests.gpu.rooms import packed_rooms

HEIGHT, SAMPLES, ROOMS, BATCH_SIZE = 512, 320, 8, 8
STEP_S, REQUEST_S = 0.025, 0.030
DATA = DataConfig(image_height=HEIGHT, batch_size=BATCH_SIZE, num_workers=1, augment=1.0)
_SIZE = f"{HEIGHT}×{2 * HEIGHT}, batches of {BATCH_SIZE}"


def benchmark(repeats: int) -> Iterator[Result]:
    """Batches are counted where they are decoded and what augments them is drawn: the rest is the device's work."""
    cv2.setNumThreads(1)
    with TemporaryDirectory() as folder:
        run, column = packed_rooms(Path(folder) / "run", SAMPLES, HEIGHT, ROOMS)
        data = DATA.module(run.storage, column)
        urls = [run.storage.locate(f"{column}/{entry['name']}") for entry in read_index(run.storage, column)]
        load = timed(lambda: _drain(data))
        with one_core():
            yield _against(load, lambda: _decode(data.train), "decode of the same samples in a bare loop", repeats)
            yield _against(load, lambda: _webdataset(urls), "webdataset's own pipeline, one worker", repeats)
        yield from _paced(run.storage, column)
        with serving(Path(folder) / "run", REQUEST_S) as (uri, requests):
            remote = DATA.module(Storage(uri), column)
            yield _from_store(remote, load, requests, repeats)
        yield _augmentation(data, repeats)


def _against(load: Callable[[], float], other: Callable[[], None], what: str, repeats: int) -> Result:
    pair = paired(load, timed(other), repeats)
    own_ms, other_ms = (1000 * _cpu_of(work) / SAMPLES for work in (load, other))
    figures = (
        f"{SAMPLES / pair.work_s:.0f} against {SAMPLES / pair.against_s:.0f} samples/s; "
        f"{own_ms:.1f} against {other_ms:.1f} ms of processor time a sample"
    )
    return Result(
        f"loader, {_SIZE}, augmentation on", f"{what}, both on one core", f"{pair.rate:.2f}", "≥ 0.9", figures
    )


def _paced(storage: Storage, column: str) -> Iterator[Result]:
    """A card that takes so long a batch, and does nothing on the CPU."""
    for workers in (1, 2):
        loader = dataclasses.replace(DATA, num_workers=workers).module(storage, column).loader(training=True)
        batches, waited_s, steps = loader.decoded(), 0.0, 0
        next(batches)
        before_s, started = _cpu_s(), time.perf_counter()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            waited_s += time.perf_counter() - asked
            if batch is None:
                break
            time.sleep(STEP_S)
            steps += 1
        seconds = time.perf_counter() - started
        cores = (_cpu_s() - before_s) / steps / STEP_S
        figures = f"{cores:.1f} cores would keep it busy; it waits {waited_s / seconds:.0%} of the time"
        what = f"loader, {_SIZE}, {workers} workers, a card that takes {1000 * STEP_S:.0f} ms a batch"
        yield Result(what, "the card alone", f"{steps * STEP_S / seconds:.2f}", "", figures)


def _cpu_of(work: Callable[[], object]) -> float:
    """Processor time of a work, its worker processes included: on a busy machine, steadier than a clock."""
    before_s = _cpu_s()
    work()
    gc.collect()  # workers end, and their time counts, when their loader goes
    return _cpu_s() - before_s


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _from_store(remote: PanoramaDataModule, local: Callable[[], float], requests: Any, repeats: int) -> Result:
    before = requests.value
    with one_core():
        pair = paired(timed(lambda: _drain(remote)), local, repeats)
    each = (requests.value - before) / SAMPLES / (repeats + 1)
    figures = (
        f"{SAMPLES / pair.work_s:.0f} against {SAMPLES / pair.against_s:.0f} samples/s; {each:.2f} requests a sample"
    )
    what = f"loader, {_SIZE}, from a store that takes {1000 * REQUEST_S:.0f} ms a request"
    return Result(what, "the same from the local disk, both on one core", f"{pair.rate:.2f}", "≥ 0.8", figures)


def _augmentation(data: PanoramaDataModule, repeats: int) -> Result:
    """On this machine's CPU: a GPU's figure is in the table of `make gpu`."""
    batch = next(data.loader(training=True).decoded())
    batch = dataclasses.replace(batch, rgb=batch.rgb.clone(), units=batch.units.clone())
    plain = dataclasses.replace(batch, drawn=None)
    pair = paired(timed(lambda: _finish(batch)), timed(lambda: _finish(plain)), repeats)
    figures = f"{1000 * pair.work_s / BATCH_SIZE:.0f} against {1000 * pair.against_s / BATCH_SIZE:.0f} ms a panorama"
    return Result(f"augmentation of a batch, {_SIZE}, on CPUs", "normalising it alone", f"{pair.rate:.2f}", "", figures)


def _finish(batch: Decoded) -> None:
    finish(batch, torch.device("cpu"))


def _drain(data: PanoramaDataModule) -> None:
    for _batch in data.loader(training=True).decoded():
        pass


def _decode(samples: ShardSet) -> None:
    for number in range(SAMPLES):
        sample = samples.read(number)
        _decoded({"jpg": sample.jpg, "depth.png": sample.depth_png})


def _decoded(sample: dict) -> tuple[np.ndarray, np.ndarray]:
    return simplejpeg.decode_jpeg(sample["jpg"]), decode_units(sample["depth.png"])


def _webdataset(urls: list[str]) -> None:
    """Shuffled, decoded by the same codecs, batched, through PyTorch's loader."""
    pipeline = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False).shuffle(100).map(_decoded)
    for _batch in DataLoader(pipeline.batched(BATCH_SIZE), batch_size=None, num_workers=1):
        pass
