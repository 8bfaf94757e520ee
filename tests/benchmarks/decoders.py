"""What turning a panorama changes for either decoder: the seam at ±180°, and the error under yaw.

Two small networks that differ in nothing but the decoder are trained alike, on the same simulated panoramas in the same
order, and measured on panoramas of other scenes. These are ratios of distances: no clock is read, and the number of
rounds does not matter.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.models.datasets.base import Labelled
from dap_engine.models.inference.predictor import DepthPredictor
from dap_engine.models.metrics.depth import depth_metrics
from dap_engine.models.metrics.equivariance import seam_ratio, yaw_error
from dap_engine.models.network.dpt_head import Decoder
from dap_engine.models.training.settings import TrainSettings
from dap_engine.stages.pack import Pack, Source
from dap_engine.stages.reports.labelled import decode_labelled
from dap_engine.stages.simulate import Simulate
from dap_engine.stages.training.settings import DataConfig
from dap_engine.stages.training.train import Network, Train
from tests.benchmarks.material import finished_run
from tests.benchmarks.measure import Result

HEIGHT, PANORAMAS, STEPS, BATCH_SIZE = 96, 480, 240, 8
MEASURED = 24
TURNS = 4  # that the mean is taken over; the error is measured at fifths of a turn


def benchmark(repeats: int) -> Iterator[Result]:
    """Both decoders, one training each."""
    simulate, pack = Simulate("rooms", PANORAMAS, height=HEIGHT), Pack("rooms", sources=[Source("labelled-rooms")])
    with TemporaryDirectory() as folder:
        for decoder in get_args(Decoder):
            run = finished_run(Path(folder), simulate, pack, _train(decoder))
            yield from _turned(decoder, run.storage.locate(f"models/{decoder}"), _unseen(run, "labelled-rooms"))


def _train(decoder: Decoder) -> Train:
    return Train(
        model=decoder,
        data="train-rooms",
        training=TrainSettings(STEPS, backbone_lr=1e-3, decoder_lr=1e-3, warmup_steps=min(30, STEPS // 10)),
        network=Network(config={"decoder": decoder, "image_height": HEIGHT}),
        batches=DataConfig(image_height=HEIGHT, batch_size=BATCH_SIZE, num_workers=0),
    )


def _unseen(run: RunDir, column: str) -> list[Labelled]:
    rows = (row for receipt in run.receipts(column).values() for row in run.rows(receipt))
    return [decode_labelled(row) for row in rows if row.fields["json"]["split"] == "test"][:MEASURED]


def _turned(decoder: Decoder, folder: str, items: list[Labelled]) -> Iterator[Result]:
    once, mean_of_turns = (DepthPredictor(folder, "cpu", yaw_turns=turns) for turns in (1, TURNS))
    depths_m = [prediction.depth_m for prediction in once.predict([item.rgb for item in items])]
    seams = [seam_ratio(depth_m) for depth_m in depths_m]
    network = f"tiny network at {HEIGHT}×{2 * HEIGHT} after {STEPS} steps of {BATCH_SIZE}, {len(items)} panoramas"
    yield Result(
        f"decoder `{decoder}`: jump of distances at ±180°, {network}",
        "jump between neighbouring columns, medians",
        f"{median(seams):.2f}",
        "≤ 1.5" if decoder == "spherical" else "",
        f"{min(seams):.2f} to {max(seams):.2f}",
    )
    errors = [mean(_yaw_error(predictor, item) for item in items) for predictor in (once, mean_of_turns)]
    yield Result(
        f"decoder `{decoder}`: error under yaw, {network}",
        "distances before the turn, by solid angle, at fifths of a turn",
        f"{100 * errors[0]:.1f} %",
        "",
        f"{100 * errors[1]:.1f} % with the mean over {TURNS} turns; AbsRel {_abs_rel(items, depths_m):.3f}",
    )


def _yaw_error(predictor: DepthPredictor, item: Labelled) -> float:
    return yaw_error(lambda rgb: predictor.predict([rgb])[0].depth_m, item.rgb)


def _abs_rel(items: list[Labelled], depths_m: list[np.ndarray]) -> float:
    pairs = zip(items, depths_m, strict=True)
    return mean(depth_metrics(found, item.depth_m, np.isfinite(item.depth_m))["abs_rel"] for item, found in pairs)
