"""Generates panoramas from text, for places that nobody films: as the paper's 200K indoor ones by DiT360."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext, UnreachableError
from ..models.generation.prompts import Words, read_prompts
from ..models.support.model_checks import check_weight_files
from .batches.model_failure import model_failures_end_the_run
from .batches.panorama_source import PanoramaSource

_MULTIPLE = 16  # of pixels: a token of latents


@dataclass
class Generate(PanoramaSource, PipelinedStage):
    """`panoramas` panoramas to a column, checked as frames of footage are: what is not whole and level is dropped.

    A panorama follows from `seed` and its number. It is made at `picture_height`, and kept at `height`.
    """

    name: ClassVar[str] = "generate"

    model: AssetUri  # a text-to-image pipeline of diffusers: a folder, or a hub id such as black-forest-labs/FLUX.1-dev
    panoramas: int  # 0: none, and nothing is loaded
    lora: AssetUri | None = None  # weights for it, such as Insta360-Research/DiT360-Panorama-Image-Generation
    prompts: AssetUri | None = None  # a text file, one a line, taken in turn; without it they are composed of `words`
    words: Words = field(default_factory=Words)
    column: str = field(default="generated", kw_only=True)
    picture_height: int = 1024
    steps: int = 28  # of denoising
    guidance: float = 2.8  # how closely a picture follows its prompt
    wrap: Literal["auto", "padding", "rolling"] = "auto"  # how its borders are made to meet
    batch_size: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.panoramas, self.guidance, self.seed) < 0 or self.steps < 1:
            raise ValueError("generate: panoramas, guidance and seed must be at least 0, steps at least 1")
        if self.picture_height < self.height or self.picture_height % _MULTIPLE:
            raise ValueError(f"generate: picture_height must be a multiple of {_MULTIPLE}, and at least height")

    def assets(self) -> dict[str, str]:
        return super().assets() if self.panoramas else {}

    def check(self) -> None:
        if not self.panoramas:
            return
        if Path(self.model).is_dir() and not (Path(self.model) / "model_index.json").is_file():
            raise ValueError(f"generate: {self.model}: is no pipeline of diffusers: it has no model_index.json")
        for weights in filter(None, (self.model, self.lora)):
            if Path(weights).exists():
                check_weight_files(Path(weights))
        if self.prompts:
            read_prompts(self.prompts)
        if not find_spec("diffusers"):
            raise UnreachableError(f"{self.model} needs diffusers: install dap-engine[generate], or set panoramas to 0")

    def shards(self) -> Sequence[str]:
        return [self.shard(number) for number in range(-(-self.panoramas // self.panoramas_per_shard))]

    def source(self, shard: str) -> Iterator[Sample]:
        start = int(shard.rpartition("-")[2]) * self.panoramas_per_shard
        numbers = range(start, min(start + self.panoramas_per_shard, self.panoramas))
        return (Sample(self.key(f"{number:08d}"), {"panorama": {"number": number}}) for number in numbers)

    def setup(self, context: StageContext) -> None:
        from ..models.generation.pipeline import PanoramaGenerator

        super().setup(context)
        self._lines = read_prompts(context.assets["prompts"]) if self.prompts else []
        try:
            self._generator = PanoramaGenerator(
                context.assets["model"], context.assets.get("lora"), device=self.device, wrap=self.wrap
            )
        except ValueError as error:
            hint = "set generate.model and .lora to folders or to hub ids that you may load; panoramas=0 does without"
            raise ValueError(f"{error}; {hint}") from error

    def decode(self, sample: Sample) -> tuple[str, int]:
        """The prompt of a panorama, and the seed of its noise."""
        number = sample["panorama"]["number"]
        line = self._lines[number % len(self._lines)] if self._lines else self.words.compose(self.seed, number)
        digest = hashlib.sha256(f"{self.seed}:{number}".encode()).digest()
        return line, int.from_bytes(digest[:7])

    def predict(self, decoded: list[tuple[str, int]]) -> list[tuple[np.ndarray, str, int]]:
        prompts, seeds = (list(column) for column in zip(*decoded, strict=True))
        with model_failures_end_the_run():
            rgbs = self._generator.generate(
                prompts, seeds, height=self.picture_height, steps=self.steps, guidance=self.guidance
            )
        return list(zip(rgbs, prompts, seeds, strict=True))

    def encode(self, sample: Sample, result: tuple[np.ndarray, str, int]) -> Row | Drop:
        rgb, prompt, seed = result
        return self.checked(f"{sample['panorama']['number']:08d}", rgb, {"prompt": prompt, "seed": seed})
