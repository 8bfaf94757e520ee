"""How images are augmented, as recipes set it by their source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceAugment:
    """How images of a source are augmented: 0 is turns and mirrors alone (weak), 1 the default (strong)."""

    strength: float = 1.0
    cutmix: float = 0.0  # the chance that a part of another image of the source is pasted in

    def __post_init__(self) -> None:
        if self.strength < 0 or not 0 <= self.cutmix <= 1:
            raise ValueError("strength cannot be negative, cutmix must be in [0, 1]")
