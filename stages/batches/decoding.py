"""Decodes the image of a sample, with a drop for what is no image."""

from __future__ import annotations

import numpy as np
import simplejpeg

from ...engine.records.sample import Drop, Sample


def decode_image(sample: Sample, column: str) -> np.ndarray | Drop:
    """The JPEG of a sample in `column` as (H, W, 3) uint8 RGB, or the drop of one that does not decode."""
    try:
        return simplejpeg.decode_jpeg(sample[column]["jpg"], colorspace="RGB")
    except ValueError as error:
        return Drop(sample.key, "bad_image", str(error))
