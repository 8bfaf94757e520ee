"""The stages that use a card, end to end from encoded samples to encoded rows, against the bare networks."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import simplejpeg
import torch

from dap_engine.engine.execution.pipeline import read_ahead
from dap_engine.engine.execution.samples import ShardWork
from dap_engine.engine.records.sample import Sample
from dap_engine.engine.steps.step import Stage, StageContext
from dap_engine.engine.storage.storage import Storage
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png, summarise_depth
from dap_engine.models.data.pixel_values import pixel_values
from dap_engine.models.network.discriminator import Discriminator
from dap_engine.stages.label import Label
from dap_engine.stages.score import Score
from dap_engine.stages.tag import Tag
from tests.gpu.bench import Bench
from tests.gpu.report import Figure, Measurement
from tests.models.tagging.tiny_models import save_tiny_qwen2vl


def label(bench: Bench) -> Iterator[Measurement]:
    """The stage, the bare forward, and what the CPU does for a panorama, part by part."""
    name, batch, folder = bench.sizes.names[0], bench.sizes.batch, str(bench.depth_folder)
    stage = Label(model=folder, batch_size=batch)
    _set_up(stage, bench, model=folder)
    model, pixels = stage._labeler.predictor.model, bench.pixels(batch)
    yield bench.measured(
        f"label, {name}, batches of {batch}",
        lambda: _against_bare(bench, stage, lambda: model(pixels)),
    )
    yield bench.measured("CPU time of a panorama, part by part", lambda: _parts(bench))


def score(bench: Bench) -> Iterator[Measurement]:
    """The discriminator, in float32 as the scorer runs it."""
    folder, batch = bench.folder / "discriminator", bench.sizes.batch
    Discriminator.new(bench.sizes.discriminator).save_pretrained(folder)
    stage = Score(model=str(folder), batch_size=batch)
    _set_up(stage, bench, model=str(folder))
    rooms = bench.repeated(batch)
    pixels = bench.pixels(batch)
    depth_m = torch.from_numpy(np.stack([room.depth_m for room in rooms])).to(bench.device)
    model = stage._scorer.model
    yield bench.measured(
        f"score, batches of {batch}",
        lambda: _against_bare(bench, stage, lambda: model.score(pixels, depth_m), autocast=False),
    )


def tag(bench: Bench) -> Iterator[Measurement]:
    """A Qwen2-VL of few layers; the share of the processor grows as layers are taken away, so both are told apart."""
    resizer = _find_resizer()
    folder, batch = bench.folder / "qwen", bench.sizes.batch
    with bench.device:
        save_tiny_qwen2vl(folder, text=dict(bench.sizes.qwen_text), vision=dict(bench.sizes.qwen_vision))
    stage = Tag(model=str(folder), batch_size=batch)
    _set_up(stage, bench, tagger=str(folder))
    scene = stage._tagger.model
    rgbs = [room.rgb for room in bench.repeated(batch)]
    inputs = scene.inputs(list(map(scene.prepare, rgbs)))
    yield bench.measured(
        f"tag, {bench.sizes.qwen_name}, batches of {batch}",
        lambda: {
            **_against_bare(bench, stage, lambda: scene._model(**inputs, logits_to_keep=1), autocast=False),
            "tokens": inputs["input_ids"].shape[1],
            "ms of the processor": 1000 * bench.seconds(lambda: scene.inputs(list(map(scene.prepare, rgbs)))) / batch,
            "resized by": resizer,
        },
    )


def _set_up(stage: Stage, bench: Bench, **assets: str) -> None:
    stage.setup(StageContext(Storage(str(bench.folder)), assets))


def _against_bare(
    bench: Bench, stage: Stage, bare: Callable[[], Any], *, autocast: bool = True
) -> Mapping[str, Figure]:
    """Rates of a stage and of its network alone, which `bare` runs on one batch that lies on the device already."""
    size = stage.batch_size
    samples = [
        Sample(f"room-{number:06d}", {"frames": {"jpg": room.jpeg}, "labels-1": {"depth.png": room.depth_png}})
        for number, room in enumerate(bench.repeated(bench.sizes.labelled))
    ]
    batches = [samples[first : first + size] for first in range(0, len(samples), size)]

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder, closing(_shard_work(stage, Path(folder))) as shard:
            for batch in read_ahead(iter(batches), shard.flush):
                shard.take(batch)
            shard.finish()
            if shard.drops:
                raise RuntimeError(f"{stage.name} dropped {shard.drops[0]}")

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=autocast and bench.on_gpu):
            bare()

    stage_s, bare_s = bench.seconds(work, warm_ups=1) / len(samples), bench.seconds(forward) / size
    return {
        "panoramas/s": 1 / stage_s,
        "panoramas/s of the bare network": 1 / bare_s,
        "of the bare rate": bare_s / stage_s,
        "GiB at most": bench.peak_gib(),
    }


def _shard_work(stage: Stage, folder: Path) -> ShardWork:
    """As a worker does it that has all cores."""
    return ShardWork(stage, stage.writes.writer(folder), threads=max(2, len(os.sched_getaffinity(0))))


def _parts(bench: Bench) -> Mapping[str, Figure]:
    rooms = bench.rooms
    parts: dict[str, Callable[[], Any]] = {
        "JPEG": lambda: [simplejpeg.decode_jpeg(room.jpeg) for room in rooms],
        "pixels": lambda: pixel_values([room.rgb for room in rooms]),
        "quantise and PNG": lambda: [encode_depth_png(room.depth_m) for room in rooms],
        "PNG read": lambda: [decode_depth_png(room.depth_png) for room in rooms],
        "summary": lambda: [summarise_depth(room.depth_m) for room in rooms],
    }
    return {f"ms {name}": 1000 * bench.seconds(work, warm_ups=1) / len(rooms) for name, work in parts.items()}


def _find_resizer() -> str:
    """qwen_vl_utils; where it is missing, a stand-in for the one thing that the tagger uses of it."""
    try:
        import qwen_vl_utils
    except ImportError:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        def resized(ask: Mapping[str, Any], patch_size: int) -> Any:
            image = ask["image"]
            limits = {"min_pixels": ask["min_pixels"], "max_pixels": ask["max_pixels"]}
            height, width = smart_resize(image.height, image.width, factor=2 * patch_size, **limits)
            return image.resize((width, height))

        qwen_vl_utils = ModuleType("qwen_vl_utils")
        qwen_vl_utils.process_vision_info = lambda asked, image_patch_size: (
            [resized(conversation[0]["content"][0], image_patch_size) for conversation in asked],
            None,
        )
        sys.modules["qwen_vl_utils"] = qwen_vl_utils
        return "a stand-in for qwen_vl_utils"
    return "qwen_vl_utils"
