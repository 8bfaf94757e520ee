"""Whether a panorama is indoors or outdoors, from a probability that one of several models gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from ..inference.embedded import EMBEDDED
from ..support.model_checks import check_numbers
from .embedded import EmbeddedScene

Scene = Literal["indoor", "outdoor", "unsure"]

DEFAULT_PROMPT = (
    "This is a 360-degree panorama in equirectangular projection. Was it taken inside a building or other enclosed "
    "space, or outside in the open air? Answer with one word: indoor or outdoor."
)


class SceneTag(NamedTuple):
    """A scene and the probability of being indoors that it rests on."""

    scene: Scene
    p_indoor: float


class SceneModel(Protocol):
    """Gives the probability of being indoors for each of a batch of uint8 RGB panoramas (H, W, 3), any sizes."""

    def p_indoor(self, rgbs: list[np.ndarray]) -> list[float]: ...


@dataclass(frozen=True)
class Tagger:
    """A scene model with a name for its outputs, and the threshold that decides when it is unsure."""

    name: str
    model: SceneModel
    threshold: float

    def tag(self, rgbs: list[np.ndarray]) -> list[SceneTag]:
        """Tags of uint8 RGB panoramas (H, W, 3), in their order; raises ModelOutputError."""
        found = self.model.p_indoor(rgbs)
        check_numbers(self.name, np.array(found))
        return [SceneTag(scene_of(p, self.threshold), p) for p in found]


def scene_of(p_indoor: float, threshold: float) -> Scene:
    """Indoor at `threshold` or above, outdoor at 1 − `threshold` or below, unsure between."""
    if p_indoor >= threshold:
        return "indoor"
    return "outdoor" if p_indoor <= 1 - threshold else "unsure"


def check_threshold(threshold: float) -> None:
    """ValueError unless the threshold leaves no probability both indoor and outdoor."""
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0.5, 1], not {threshold}")


def make_tagger(
    model: str = EMBEDDED,
    *,
    folder: str | None = None,
    threshold: float = 0.6,
    prompt: str = DEFAULT_PROMPT,
    min_pixels: int = 256 * 28 * 28,
    max_pixels: int = 1280 * 28 * 28,
) -> Tagger:
    """The embedded tagger, or a Qwen2-VL of a local folder or hub id, which alone uses the prompt and the pixels.

    `folder` is where the model lies if not at its name, as with a copy in a cache; the tagger is named after `model`.
    Panoramas are resized to between `min_pixels` and `max_pixels`; every 28×28 of them become a token.

    Raises:
        ValueError: a threshold outside [0.5, 1], or a model that is no Qwen2-VL.
    """
    check_threshold(threshold)
    if model == EMBEDDED:
        return Tagger(EmbeddedScene.name, EmbeddedScene(), threshold)
    from .qwen import QwenScene  # transformers and torchvision, only where they are needed

    scene_model = QwenScene(folder or model, prompt=prompt, min_pixels=min_pixels, max_pixels=max_pixels)
    return Tagger(Path(model).name, scene_model, threshold)
