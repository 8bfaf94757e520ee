"""What a vision-language model is asked about a panorama, and at what size it sees it."""

from dataclasses import dataclass

DEFAULT_PROMPT = (
    "This is a 360-degree panorama in equirectangular projection. Was it taken inside a building or other enclosed "
    "space, or outside in the open air? Answer with one word: indoor or outdoor."
)


@dataclass(frozen=True)
class Question:
    """The prompt, and the size of the panorama: `height` pixels at most, then what a Qwen's bounds leave of it.

    A Qwen resizes it to between `min_pixels` and `max_pixels`; 28×28 of them (Qwen3-VL: 32×32) become a token.
    """

    prompt: str = DEFAULT_PROMPT
    height: int = 512
    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 1280 * 28 * 28

    def __post_init__(self) -> None:
        if self.height < 1 or not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError("height must be positive, and min_pixels positive and at most max_pixels")
