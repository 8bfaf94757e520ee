"""What the sources of a packed column hold: rows, shard by shard, from the tables of members and of selections."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from ...engine.records.tar import PLACE
from ...engine.rundir.members import read_members
from ...engine.rundir.receipts import Receipt
from ...engine.rundir.rundir import RunDir
from ...engine.steps.barrier import Inputs, input_of
from ..batches.panoramas import Columns, names_of

PARTS = ("jpg", "depth", "json", "label_json")  # label_json is null where the images bring their own depth
ROWS = pa.schema(
    [("key", pa.string()), ("split", pa.string()), ("origin", pa.int32()), *((part, PLACE) for part in PARTS)]
)
"""A sample, the number of the `Origin` of its parts, and where they lie there."""

_FIELDS = ("jpg", "depth.png", "json")
_SIDE_BY_SIDE = 16
_SHARDS_AT_ONCE = 64


@dataclass(frozen=True)
class Source:
    """Where samples come from: columns of images with depth, or of images and another of labels, maybe selected."""

    images: Columns
    labels: str | None = None
    selection: str | None = None

    def __post_init__(self) -> None:
        names_of(self.images)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the source reads."""
        return (*names_of(self.images), *(column for column in (self.labels, self.selection) if column))


@dataclass(frozen=True)
class Origin:
    """One shard of a source."""

    source: str
    images: Receipt
    labels: Receipt | None
    selection: Receipt | None

    def path(self, part: str) -> str | None:
        """Which tar holds a part."""
        of_labels = self.labels.output.path if self.labels else None
        return {"depth": of_labels or self.images.output.path, "label_json": of_labels}.get(
            part, self.images.output.path
        )


def origins(inputs: Inputs, source: Source) -> Iterator[Origin]:
    """The shards of a source. Its samples are named after the labels, else after the images.

    Raises BarrierError where labels or selection lack a shard of the images.
    """
    for column in names_of(source.images):
        for shard, images in inputs[column].items():
            labels = input_of(inputs, shard, source.labels) if source.labels else None
            selection = input_of(inputs, shard, source.selection) if source.selection else None
            yield Origin(source.labels or column, images, labels, selection)


def all_rows(run: RunDir, some: Iterator[Origin]) -> Iterator[pa.Table]:
    """The ROWS of some shards, read side by side; their origins are numbered in the order given."""
    first = 0
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        while chunk := list(islice(some, _SHARDS_AT_ONCE)):
            yield from pool.map(lambda item: rows_of(run, item[1], item[0]), enumerate(chunk, first))
            first += len(chunk)


def rows_of(run: RunDir, origin: Origin, number: int) -> pa.Table:
    """ROWS of the samples of a shard that have all their parts and, if there is a selection, are in it."""
    images = read_members(run.storage, origin.images, *_FIELDS)
    labels = read_members(run.storage, origin.labels, *_FIELDS) if origin.labels else images
    places = pc.index_in(images["key"], value_set=labels["key"])
    label_json = labels["json"].take(places) if origin.labels else pa.nulls(len(images), PLACE)
    parts = [images["jpg"], labels["depth.png"].take(places), images["json"]]
    split = pc.fill_null(images["split"], "train")
    numbers = pa.repeat(pa.scalar(number, pa.int32()), len(images))
    rows = pa.table([images["key"], split, numbers, *parts, label_json], schema=ROWS)
    needed = [rows[part].is_valid() for part in (PARTS if origin.labels else PARTS[:-1])]
    if origin.selection:
        needed.append(pc.is_in(rows["key"], value_set=run.table(origin.selection)["key"]))
    whole = needed[0]
    for other in needed[1:]:
        whole = pc.and_(whole, other)
    return rows.filter(whole)
