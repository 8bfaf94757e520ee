"""Packed shards to training batches, against decoding the same samples in a bare loop."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import simplejpeg

from dap_engine.models.data.loader import PanoramaDataModule, PanoramaLoader
from dap_engine.models.data.shards import ShardRef, ShardSet
from dap_engine.stages.simulate import Simulate
from tests.benchmarks.material import SHARD, finished_run
from tests.benchmarks.measure import Result, one_core, paired, timed

HEIGHT, PANORAMAS, BATCH_SIZE = 512, 8, 4
TIMES = 8  # the panoramas are repeated, so that starting the worker counts for little


def benchmark(repeats: int) -> Iterator[Result]:
    """With augmentation, and without, which tells what the loader itself costs."""
    cv2.setNumThreads(1)
    simulate = Simulate("sim", PANORAMAS, height=HEIGHT)
    with TemporaryDirectory() as folder, one_core():
        run = finished_run(Path(folder), simulate)
        shards = [ShardRef(run.storage.locate(simulate.writes.path(SHARD)), PANORAMAS)] * TIMES
        samples = [ShardSet(shards)[number] for number in range(PANORAMAS * TIMES)]
        for strength, target in ((1.0, "≥ 0.9"), (0.0, "")):
            yield _load(shards, samples, strength, target, repeats)


def _load(shards: list[ShardRef], samples: list[dict[str, Any]], strength: float, target: str, repeats: int) -> Result:
    module = PanoramaDataModule(shards, [], image_height=HEIGHT, batch_size=BATCH_SIZE, num_workers=1, augment=strength)
    loader = module.loader(training=True)
    pair = paired(timed(lambda: _drain(loader)), timed(lambda: _decode(samples)), repeats)
    return Result(
        f"loader, {HEIGHT}×{2 * HEIGHT}, augmentation {'on' if strength else 'off'}, batches of {BATCH_SIZE}",
        "decode of the same samples in a bare loop, both on one core",
        f"{pair.rate:.2f}",
        target,
        f"{len(samples) / pair.work_s:.1f} against {len(samples) / pair.against_s:.1f} samples/s",
    )


def _drain(loader: PanoramaLoader) -> None:
    for _batch in loader:
        pass


def _decode(samples: list[dict[str, Any]]) -> None:
    for sample in samples:
        simplejpeg.decode_jpeg(sample["jpg"])
        cv2.imdecode(np.frombuffer(sample["depth.png"], np.uint8), cv2.IMREAD_UNCHANGED)
