"""Steps that look at panoramas: of one column, or of several whose shards they take one after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...engine.records.sample import Drop, Sample
from ...engine.steps.step import Step
from .decoding import decode_image

Columns = str | list[str]
"""A column, or several."""


def names_of(columns: Columns) -> tuple[str, ...]:
    """The names, each once; ValueError if there is none."""
    names = tuple(dict.fromkeys([columns] if isinstance(columns, str) else columns))
    if not all(names) or not names:
        raise ValueError(f"images: {columns!r} names no column")
    return names


@dataclass
class OverPanoramas(Step):
    """What steps share that take each shard from whichever column of panoramas has it.

    The setting stays out of fingerprints: the input of a shard says which column it is from.
    """

    images: Columns = field(default="frames", kw_only=True)  # columns of panoramas, such as [frames, generated]

    def __post_init__(self) -> None:
        names_of(self.images)

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The columns of panoramas."""
        return names_of(self.images)

    @property
    def alternatives(self) -> tuple[str, ...]:
        return tuple(column for column in self.image_columns if column in self.reads)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "images"}

    def decode_panorama(self, sample: Sample) -> np.ndarray | Drop:
        """The panorama of a sample as (H, W, 3) uint8 RGB, or the drop of one that does not decode."""
        return decode_image(sample, next(column for column in self.image_columns if column in sample.columns))
