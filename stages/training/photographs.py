"""Photographed panoramas that a training or a fit is given as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...engine.steps.barrier import BarrierError
from ...models.data.pictures import PICTURE_SUFFIXES, PictureError, read_picture


def read_photographs(folder: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """The images below a folder, sorted by path, as uint8 RGB (H, W, 3); BarrierError for one that cannot be read."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES):
        try:
            yield path, read_picture(path)
        except PictureError as error:
            raise BarrierError(f"{path}: {error}") from error
