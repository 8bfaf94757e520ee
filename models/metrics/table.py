"""What the metrics of depth maps share: their state is a table with a row of numbers for each image.

A row depends on its image alone, and figures of a data set are made of the whole table at the end by exact sums
(`math.fsum`). So they are the same to the last bit however the images were batched, ordered, or spread over ranks.
"""

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before torchmetrics, which imports torchvision where it is installed

from torchmetrics import Metric  # noqa: E402
from torchmetrics.utilities import dim_zero_cat  # noqa: E402

from .alignment import BEYOND_RANGE_M, Alignment, align  # noqa: E402


class ImageMetric(Metric):
    """A metric of images; `columns` is the length of the row that `measure` makes of one.

    Updates take predictions, truths and masks of what is to be measured: (B, H, W) or one (H, W), arrays or tensors.
    Images whose mask is empty are not counted: so a loader may fill its last batches with images that mask nothing.
    """

    full_state_update = False
    table: list[Tensor]

    def __init__(self, columns: int, alignment: Alignment = "none") -> None:
        super().__init__()
        self.columns = columns
        self.alignment: Alignment = alignment
        self.set_dtype(torch.float64)  # of the empty table, too, that a rank without images sends to the others
        self.add_state("table", [], dist_reduce_fx="cat")

    def update(self, prediction: Any, target_m: Any, mask: Any) -> None:
        """Adds images. ValueError if a prediction or a truth in the mask is no distance."""
        maps = same_shape(prediction, target_m, mask)
        batches = (values.reshape(-1, *values.shape[-2:]) for values in maps)
        for image, truth_m, wanted in zip(*batches, strict=True):
            if wanted.any():
                image_m = align(image, truth_m, wanted, self.alignment)
                row = self.measure(*checked(image_m, truth_m, wanted))
                self.table.append(row.to(self.device, torch.float64).flatten())

    @abstractmethod
    def measure(self, prediction_m: Tensor, target_m: Tensor, mask: Tensor) -> Tensor:
        """The row, of `columns` numbers in any shape, of one image: (H, W) each, float64 distances and a bool mask."""

    def rows(self) -> np.ndarray:
        """The table of all images so far, (N, columns) float64."""
        if isinstance(self.table, list) and not self.table:
            return np.empty((0, self.columns))
        return dim_zero_cat(self.table).cpu().numpy().reshape(-1, self.columns)


def checked(prediction_m: Any, target_m: Any, mask: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (..., H, W) as float64 and bool tensors; a prediction of inf is set to `BEYOND_RANGE_M`.

    ValueError if shapes differ, if no pixel is left, or if in the mask a prediction is nan or not positive, or a
    truth not positive and finite.
    """
    prediction, target, mask = same_shape(prediction_m, target_m, mask)
    prediction, target = prediction.double(), target.double()
    if not mask.any():
        raise ValueError("the mask leaves no pixel to measure")
    prediction = prediction.masked_fill(prediction.isposinf(), BEYOND_RANGE_M)
    if not (prediction[mask] > 0).all():
        raise ValueError("a predicted distance in the mask is nan or not positive")
    if not ((target[mask] > 0) & target[mask].isfinite()).all():
        raise ValueError("a true distance in the mask is not positive and finite")
    return prediction, target, mask


def same_shape(prediction: Any, target_m: Any, mask: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Arrays or tensors (..., H, W) as tensors without a gradient, the mask of bool; ValueError if shapes differ."""
    prediction, target_m, mask = map(_as_tensor, (prediction, target_m, mask))
    if not prediction.shape == target_m.shape == mask.shape or mask.ndim < 2:
        shapes = f"{tuple(prediction.shape)}, {tuple(target_m.shape)}, {tuple(mask.shape)}"
        raise ValueError(f"prediction, target and mask must have one shape (..., H, W), not {shapes}")
    return prediction, target_m, mask.bool()


def _as_tensor(values: Any) -> Tensor:
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))


def exact_sum(rows: np.ndarray) -> np.ndarray:
    """Sums over the first axis of (N, ...), rounded once: the same in any order of the rows."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    return np.array([math.fsum(column) for column in flat.T]).reshape(rows.shape[1:])


def exact_mean(rows: np.ndarray) -> np.ndarray:
    """Means over the first axis of (N, ...) of what is a number; nan where nothing is."""
    known = ~np.isnan(rows)
    counts = known.sum(axis=0)
    return np.where(counts > 0, exact_sum(np.where(known, rows, 0.0)) / np.maximum(counts, 1), np.nan)
