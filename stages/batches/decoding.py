"""Decodes the images of a batch, with a drop for each that is no image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import simplejpeg

from ...engine.records.sample import Drop, Sample


def decode_images(batch: Sequence[Sample], column: str) -> tuple[list[Sample], list[np.ndarray], list[Drop]]:
    """The samples whose JPEG in `column` decodes, their images (H, W, 3) uint8 RGB, and a drop for each other one."""
    good, rgbs, drops = [], [], []
    for sample in batch:
        try:
            rgbs.append(simplejpeg.decode_jpeg(sample[column]["jpg"], colorspace="RGB"))
            good.append(sample)
        except ValueError as error:
            drops.append(Drop(sample.key, "bad_image", str(error)))
    return good, rgbs, drops
