"""Whether a panorama is indoors or outdoors, from a probability that one of several models gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ..inference.embedded import EMBEDDED
from ..support.model_checks import check_model_folder, check_numbers
from .embedded import EmbeddedScene
from .question import Question

Scene = Literal["indoor", "outdoor", "unsure"]

Engine = Literal["transformers", "vllm"]
"""What runs a vision-language model."""


class SceneTag(NamedTuple):
    """A scene and the probability of being indoors that it rests on."""

    scene: Scene
    p_indoor: float


class SceneModel(Protocol):
    """Says how likely uint8 RGB panoramas (H, W, 3), any sizes, are indoors."""

    def prepare(self, rgb: np.ndarray) -> Any:
        """What the model takes of one panorama. Several threads may call it at once."""
        ...

    def log_odds(self, prepared: list[Any]) -> list[float]:
        """ln(p / (1 − p)) of being indoors, for each of a batch of at least one."""
        ...


@dataclass(frozen=True)
class Tagger:
    """A scene model with a name for its outputs; below the threshold it is unsure. The log-odds are over `temperature`.

    Both are fitted to a model by `models.tagging.calibration`.
    """

    name: str
    model: SceneModel
    threshold: float
    temperature: float = 1.0

    def log_odds(self, prepared: list[Any]) -> list[float]:
        """As the model gives them; raises ModelOutputError if one is no number."""
        found = self.model.log_odds(prepared) if prepared else []
        check_numbers(self.name, np.array(found))
        return found

    def tags(self, log_odds: list[float]) -> list[SceneTag]:
        """What is said of panoramas with these log-odds."""
        found = [_logistic(odds / self.temperature) for odds in log_odds]
        return [SceneTag(scene_of(p, self.threshold), p) for p in found]

    def tag_prepared(self, prepared: list[Any]) -> list[SceneTag]:
        """Tags of what `model.prepare` made, in their order; raises ModelOutputError."""
        return self.tags(self.log_odds(prepared))

    def tag(self, rgbs: list[np.ndarray]) -> list[SceneTag]:
        """Tags of uint8 RGB panoramas (H, W, 3), in their order; raises ModelOutputError."""
        return self.tag_prepared([self.model.prepare(rgb) for rgb in rgbs])


def _logistic(log_odds: float) -> float:
    with np.errstate(over="ignore"):
        return float(1 / (1 + np.exp(-log_odds)))


def scene_of(p_indoor: float, threshold: float) -> Scene:
    """Indoor at `threshold` or above, outdoor at 1 − `threshold` or below, unsure between."""
    if p_indoor >= threshold:
        return "indoor"
    return "outdoor" if p_indoor <= 1 - threshold else "unsure"


def check_tagging(threshold: float, temperature: float) -> None:
    """ValueError if the threshold leaves a probability both indoor and outdoor, or the temperature is not positive."""
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0.5, 1], not {threshold}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")


def make_tagger(
    model: str = EMBEDDED,
    *,
    folder: str | None = None,
    threshold: float = 0.6,
    temperature: float = 1.0,
    question: Question | None = None,
    engine: Engine = "transformers",
    tensor_parallel: int = 1,
) -> Tagger:
    """The embedded tagger, or a vision-language model of a local folder or hub id, which alone is asked the question.

    `folder` is where the model lies if not at its name, as with a copy in a cache; the tagger is named after `model`.
    `tensor_parallel` is the number of cards that vLLM shares a model among.

    Raises:
        ValueError: a threshold outside [0.5, 1], or a model that cannot be loaded.
    """
    check_tagging(threshold, temperature)
    if model == EMBEDDED:
        return Tagger(EmbeddedScene.name, EmbeddedScene(), threshold, temperature)
    from .vision_language import TransformersScene, VllmScene  # transformers and torchvision: only where needed

    place, question = folder or model, question or Question()
    if Path(place).is_dir():
        check_model_folder(place)
    scene = VllmScene(place, question, tensor_parallel) if engine == "vllm" else TransformersScene(place, question)
    return Tagger(Path(model).name, scene, threshold, temperature)
