"""How far a report is, for people: a bar on a terminal, a line for each part elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..tables import people_console

T = TypeVar("T")


def tracked(words: str, items: Sequence[T]) -> Iterator[T]:
    """The items, with progress on stderr, if there are any."""
    if not items:
        return
    columns = TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=people_console(stderr=True)) as progress:
        yield from progress.track(items, total=len(items), description=words)
