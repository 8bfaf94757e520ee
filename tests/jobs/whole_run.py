"""A finished run with every column of the first two stages, as small as can be: four videos, of which two are good."""

from functools import cache
from pathlib import Path

import numpy as np
from rich.console import Console

from dap_engine.engine.execution.executor import InProcessExecutor
from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.execution.runner import Runner, save_recipe
from dap_engine.engine.planning.graph import build_graph
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.steps import STEPS
from tests.footage import panorama, perspective, write_video

RECIPE = """
name: small
executor: in-process
videos: videos
steps:
  simulate: {step: simulate, source_name: sim, panoramas: 8, panoramas_per_shard: 4, height: 32, seed: 4,
             test_share: 0.3, validation_share: 0.0}
  pack-labelled: {step: pack, train: labelled, sources: [{images: labelled-sim}]}
  labeler-1: {step: train, model: labeler-1, data: train-labelled, network: {config: {image_height: 32,
              head_channels: [8, 8, 8, 8], head_features: 8, head_output_features: 8}},
              training: &training {steps: 1, backbone_lr: 1.0e-3, decoder_lr: 1.0e-3},
              batches: &batches {image_height: 32, batch_size: 2, num_workers: 0}, hardware: &cpu {accelerator: cpu}}
  plan: {step: plan, videos: "${videos}", videos_per_shard: 2, validation_share: 0.0}
  extract: {step: extract, every_s: 0.5, height: 32, near_duplicate_bits: null}
  tag: {step: tag}
  label-1: {step: label, model: "run:models/labeler-1", round: 1}
  discriminator: {step: train-discriminator, model: discriminator, data: train-labelled, steps: 1,
                  labeler: "run:models/labeler-1", config: {image_height: 32, channels: [8, 8, 8]},
                  batches: *batches, hardware: *cpu}
  score-1: {step: score, model: "run:models/discriminator", round: 1}
  select-1: {step: select, round: 1, top: {indoor: 2, outdoor: 2, unsure: 2}}
  pack-selected: {step: pack, train: selected, samples_per_shard: 4, sources: [{images: labelled-sim},
                  {images: frames, labels: labels-1, selection: selection-1}]}
  labeler-2: {step: train, model: labeler-2, data: train-selected, init: "run:models/labeler-1",
              training: *training, batches: *batches, hardware: *cpu}
"""


@cache
def whole_run(base: Path) -> Path:
    """The run directory below a folder, made once in a session: look, but do not touch."""
    recipe = load_recipe(RECIPE, STEPS, [f"videos={write_videos(base / 'whole-run-videos')}"])
    run, graph = RunDir(str(base / "whole-run")), build_graph(recipe.nodes)
    save_recipe(recipe, run)
    result = Runner(graph, run, InProcessExecutor, Progress(Console(quiet=True))).run(graph.nodes)
    assert not result.unfinished, result.unfinished[0].error
    return base / "whole-run"


def write_videos(folder: Path) -> Path:
    """Two videos of panoramas, one of them with a bad frame, one that is no panorama, and one that is no video."""
    folder.mkdir()
    black = np.zeros((64, 128, 3), np.uint8)
    write_video(folder / "a.mp4", [panorama(64, 1, turn=i / 20) for i in range(20)])
    write_video(folder / "b.mp4", [panorama(64, 2)] * 5 + [black] * 5 + [panorama(64, 3)] * 5)
    write_video(folder / "lens.mp4", [perspective(64, seed) for seed in range(10)])
    (folder / "noise.mp4").write_bytes(b"no video")
    return folder
