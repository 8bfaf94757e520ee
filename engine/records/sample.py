"""What flows through stages: samples in, rows and drops out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample as a stage sees it: `sample["frames"]["jpg"]` is the field `jpg` of the column `frames`."""

    key: str
    columns: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, column: str) -> Mapping[str, Any]:
        return self.columns[column]


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of the column that a stage writes."""

    key: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """A sample that ends here, with the reason: a drop is output, never a crash and never silence."""

    key: str
    code: str
    detail: str = ""
    retryable: bool = False
