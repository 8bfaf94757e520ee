"""Tags every frame as indoor, outdoor or unsure, so that later stages can select per domain."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from ..engine.records.column import Column, ParquetColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import PipelinedStage, StageContext
from ..models.support.model_checks import check_model_folder
from ..models.tagging.question import DEFAULT_PROMPT, Question
from ..models.tagging.tagger import EMBEDDED, Engine, SceneTag, check_tagging, make_tagger
from .batches.model_failure import model_failures_end_the_run
from .batches.panoramas import OverPanoramas

_SCHEMA = pa.schema([("scene", pa.string()), ("p_indoor", pa.float32()), ("model", pa.string())])


@dataclass
class Tag(OverPanoramas, PipelinedStage):
    """Frames to tags: by the embedded tagger, or by a vision-language model of a folder or hub id.

    All but threshold and temperature is for the latter. What to set for these two, `dap try tag --truth` says.
    """

    name: ClassVar[str] = "tag"

    model: AssetUri = EMBEDDED
    engine: Engine = "transformers"
    tensor_parallel: int = 1  # cards that vllm shares the model among; as many belong into the pool's num_gpus
    prompt: str = DEFAULT_PROMPT
    threshold: float = 0.6  # of the probability, below which a frame is `unsure`
    temperature: float = 1.0  # of the probability
    height: int = 512  # pixels, to which larger panoramas are scaled down
    min_pixels: int = 256 * 28 * 28  # that a Qwen sees
    max_pixels: int = 1280 * 28 * 28
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tagging(self.threshold, self.temperature)
        self._question()
        if self.tensor_parallel < 1 or (self.tensor_parallel > 1 and self.engine != "vllm"):
            raise ValueError("tag: tensor_parallel is a number of cards, for engine: vllm alone")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.image_columns

    @property
    def writes(self) -> Column:
        return ParquetColumn(name="tags", schema=_SCHEMA)

    def assets(self) -> dict[str, str]:
        return {} if self.model == EMBEDDED else super().assets()

    def check(self) -> None:
        if Path(self.model).is_dir():
            check_model_folder(self.model)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "tensor_parallel"}

    def external(self) -> dict[str, str]:
        return {"model": Path(self.model).name}  # stands in every row

    def setup(self, context: StageContext) -> None:
        self._tagger = make_tagger(
            self.model,
            folder=context.assets.get("model"),
            threshold=self.threshold,
            temperature=self.temperature,
            question=self._question(),
            engine=self.engine,
            tensor_parallel=self.tensor_parallel,
        )

    def _question(self) -> Question:
        return Question(self.prompt, self.height, self.min_pixels, self.max_pixels)

    def decode(self, sample: Sample) -> Any:
        rgb = self.decode_panorama(sample)
        return rgb if isinstance(rgb, Drop) else self._tagger.model.prepare(rgb)

    def predict(self, decoded: list[Any]) -> list[SceneTag]:
        with model_failures_end_the_run():
            return self._tagger.tag_prepared(decoded)

    def encode(self, sample: Sample, result: SceneTag) -> Row:
        return Row(sample.key, {"scene": result.scene, "p_indoor": result.p_indoor, "model": self._tagger.name})
