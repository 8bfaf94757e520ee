"""Figures of a validation: over all images, by source and by scene, plain and by distance band."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from torch import Tensor

from ..metrics.depth import DepthMetrics
from .ranks import of_all_ranks
from .settings import Figure

NAMES: tuple[Figure, ...] = get_args(Figure)
LOWER_IS_BETTER = ("validation/abs_rel", "validation/rmse")


class Validation:
    """Collects images of every rank; the figures are the same on all, however images were shared among them."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, Tensor]] = []  # source, scene, row of `DepthMetrics`
        self._errors: list[str] = []

    def add(self, depth_m: Tensor, batch: Mapping[str, Any]) -> None:
        """Takes predictions (B, H, W) of a batch; images without any known distance do not count."""
        measure = DepthMetrics()
        for number, (source, scene) in enumerate(zip(batch["source"], batch["scene"], strict=True)):
            if batch["valid"][number].any():
                try:
                    measure.update(depth_m[number], batch["depth_m"][number], batch["valid"][number])
                    self._rows.append((source, scene, measure.table[-1].cpu()))
                except ValueError as error:  # raised on all ranks, by `compute`
                    self._errors.append(str(error))

    def compute(self) -> dict[str, float]:
        """`validation/abs_rel`, …; those of a group as `validation/source/NAME/abs_rel`. Forgets the images.

        Figures by distance are AbsRel alone: `validation/0-10m/abs_rel`. A kind of group with one member is left out.
        Without any image there are no figures. FloatingPointError, on all ranks, if a prediction was no distance.
        """
        rows, errors = of_all_ranks(self._rows), of_all_ranks(self._errors)
        self._rows, self._errors = [], []
        if errors:
            raise FloatingPointError(errors[0])
        figures = dict(_figures("validation", [row for *_, row in rows]))
        for place, kind in enumerate(("source", "scene")):
            names = sorted({row[place] for row in rows} - {""})
            for name in names if len(names) > 1 else []:
                figures |= _figures(f"validation/{kind}/{name}", [row[-1] for row in rows if row[place] == name])
        return figures


def _figures(prefix: str, rows: list[Tensor]) -> Iterator[tuple[str, float]]:
    if not rows:
        return
    metrics = DepthMetrics()
    metrics.table = rows
    values = DepthMetrics.compute(metrics)  # by itself: the rows are those of all ranks already
    yield from ((f"{prefix}/{name}", values[name]) for name in NAMES)
    bands = ((name, band) for name, band in values["bands"].items() if band["share"] > 0)
    yield from ((f"{prefix}/{name}m/abs_rel", band["abs_rel"]) for name, band in bands)
