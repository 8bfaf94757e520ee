"""Tags every frame as indoor, outdoor or unsure, so that later stages can select per domain."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext
from ..models.support.model_checks import check_model_folder
from ..models.tagging.tagger import DEFAULT_PROMPT, EMBEDDED, SceneTag, check_threshold, make_tagger
from .batches.decoding import decode_image
from .batches.model_failure import model_failures_end_the_run

_SCHEMA = pa.schema([("scene", pa.string()), ("p_indoor", pa.float32()), ("model", pa.string())])


@dataclass
class Tag(PipelinedStage):
    """Frames to tags: with the embedded tagger, or a Qwen2-VL of a folder or hub id, which alone uses the prompt."""

    name: ClassVar[str] = "tag"

    model: AssetUri = EMBEDDED
    prompt: str = DEFAULT_PROMPT
    threshold: float = 0.6
    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 1280 * 28 * 28
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("frames",)

    @property
    def writes(self) -> Column:
        return ParquetColumn(name="tags", schema=_SCHEMA)

    def assets(self) -> dict[str, str]:
        return {} if self.model == EMBEDDED else super().assets()

    def check(self) -> None:
        if Path(self.model).is_dir():
            check_model_folder(self.model)

    def external(self) -> dict[str, str]:
        return {"model": Path(self.model).name}  # stands in every row

    def setup(self, context: StageContext) -> None:
        self._tagger = make_tagger(
            self.model,
            folder=context.assets.get("model"),
            threshold=self.threshold,
            prompt=self.prompt,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
        )

    def decode(self, sample: Sample) -> np.ndarray | Drop:
        return decode_image(sample, "frames")

    def predict(self, decoded: list[np.ndarray]) -> list[SceneTag]:
        with model_failures_end_the_run():
            return self._tagger.tag(decoded)

    def encode(self, sample: Sample, result: SceneTag) -> Row:
        return Row(sample.key, {"scene": result.scene, "p_indoor": result.p_indoor, "model": self._tagger.name})
