"""Panoramas whose truth is known, from the columns that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import simplejpeg

from ...engine.records.rows import read_rows
from ...engine.records.sample import Row
from ...engine.rundir.rundir import RunDir
from ...engine.steps.barrier import BarrierContext
from ...models.data.depth_png import decode_depth_png
from ...models.datasets.base import Labelled
from ..packing.assignment import INDEX
from ..packing.index import read_index


def held_out(context: BarrierContext, column: str, split: str) -> Iterator[Row]:
    """The rows of a split, read from the storage one by one: every model reads them anew. The column may be packed."""
    if INDEX in context.inputs[column]:
        return packed_rows(context.run, column, split)
    rows = (row for receipt in context.inputs[column].values() for row in context.run.rows(receipt))
    return (row for row in rows if row.fields["json"].get("split", "train") == split)


def packed_rows(run: RunDir, column: str, split: str) -> Iterator[Row]:
    """The rows of a split of a packed column."""
    for entry in read_index(run.storage, column):
        if entry["split"] == split:
            path = f"{column}/{entry['name']}"
            with run.storage.open(path) as stream:
                yield from read_rows(path, stream)


def decode_labelled(row: Row) -> Labelled:
    rgb = simplejpeg.decode_jpeg(row.fields["jpg"], colorspace="RGB")
    return Labelled(row.key, rgb, decode_depth_png(row.fields["depth.png"]).depth_m, scene_of(row.fields))


def scene_of(fields: Any) -> str:
    """The scene type; `unknown` for panoramas that are brought in without one."""
    return fields["json"].get("scene", "unknown")
