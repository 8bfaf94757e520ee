"""A model that gives no numbers ends the run: no sample is to blame, and none will fare better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...engine.steps.step import BrokenStageError
from ...models.support.model_checks import ModelOutputError


@contextmanager
def model_failures_end_the_run() -> Iterator[None]:
    """Inside, a ModelOutputError becomes a BrokenStageError."""
    try:
        yield
    except ModelOutputError as error:
        raise BrokenStageError(str(error)) from error
