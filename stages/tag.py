"""Tags every frame as indoor, outdoor or unsure, so that later stages can select per domain."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import simplejpeg

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import Stage, StageContext
from ..models.tagging.tagger import DEFAULT_PROMPT, EMBEDDED, check_threshold, make_tagger

_SCHEMA = pa.schema([("scene", pa.string()), ("p_indoor", pa.float32()), ("model", pa.string())])


@dataclass
class Tag(Stage):
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

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        decoded = [_decode(sample) for sample in batch]
        tags = iter(self._tagger.tag([rgb for rgb in decoded if isinstance(rgb, np.ndarray)]))
        for sample, rgb in zip(batch, decoded, strict=True):
            if isinstance(rgb, Drop):
                yield rgb
                continue
            scene, p_indoor = next(tags)
            yield Row(sample.key, {"scene": scene, "p_indoor": p_indoor, "model": self._tagger.name})


def _decode(sample: Sample) -> np.ndarray | Drop:
    """The frame as uint8 RGB (H, W, 3), or a drop for bytes that are no whole JPEG."""
    try:
        return simplejpeg.decode_jpeg(sample["frames"]["jpg"], colorspace="RGB")
    except ValueError as error:
        return Drop(sample.key, "bad_image", str(error))
