"""Frame shards to depth shards, against the forward passes alone."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import simplejpeg
import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.models.data.pixel_values import pixel_values
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.stages.extract import Extract
from dap_engine.stages.label import Label
from dap_engine.stages.plan import Plan
from tests.benchmarks import networks
from tests.benchmarks.material import SECONDS, SHARD, finished_run, footage, shard_work
from tests.benchmarks.measure import Result, paired, timed


def benchmark(repeats: int) -> Iterator[Result]:
    """The demo's network, whose forward pass is so short that all else weighs, and a network of a real size."""
    disable_progress_bar()
    height, batch_size = (512, 8) if networks.ON_GPU else (256, 4)
    yield _label("the demo's tiny network", DapConfig.tiny(), frames=24, batch_size=8, repeats=repeats)
    yield _label(networks.NAME, networks.config(height), frames=batch_size, batch_size=batch_size, repeats=repeats)


def _label(name: str, config: DapConfig, *, frames: int, batch_size: int, repeats: int) -> Result:
    height, width = config.image_size
    with TemporaryDirectory() as folder:
        weights = f"{folder}/model"
        DapModel.new(config).save_pretrained(weights)
        steps = (
            Plan(videos=str(footage(512))),
            Extract(every_s=SECONDS / frames, height=height, near_duplicate_bits=None),
        )
        run = finished_run(Path(folder) / "run", *steps)
        batches = _batches(run, batch_size)
        model = DapModel.from_folder(weights, networks.DEVICE)
        with shard_work(Label(model=weights, batch_size=batch_size), run, {"model": weights}) as work:
            pair = paired(timed(work), timed(lambda: _forward(model, batches)), repeats)
    count = sum(map(len, batches))
    return Result(
        f"label, {name} at {height}×{width}, batches of {batch_size}",
        f"the model's bare forward on the same batches, {torch.get_num_threads()} threads",
        f"{pair.rate:.2f}",
        "≥ 0.9",
        f"{count / pair.work_s:.1f} against {count / pair.against_s:.1f} frames/s",
    )


def _batches(run: RunDir, size: int) -> list[Tensor]:
    jpegs = [row.fields["jpg"] for row in run.rows(run.receipts("frames")[SHARD])]
    rgbs = [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]
    return [pixel_values(rgbs[first : first + size]).to(networks.DEVICE) for first in range(0, len(rgbs), size)]


@torch.inference_mode()
def _forward(model: DapModel, batches: list[Tensor]) -> None:
    with networks.autocast():
        for batch in batches:
            model(batch)
    networks.synchronise()
