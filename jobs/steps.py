"""The kinds of step a recipe can name. A kind is imported when a recipe uses it, so that commands start fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from ..engine.planning.settings import RecipeError
from ..engine.steps.step import Step
from ..stages import KINDS


class _Steps(Mapping[str, type[Step]]):
    def __getitem__(self, kind: str) -> type[Step]:
        module, name = KINDS[kind].split(":")
        return getattr(import_module(module), name)

    def __contains__(self, kind: object) -> bool:
        return kind in KINDS

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)


STEPS: Mapping[str, type[Step]] = _Steps()


def kind_of(step: type[Step]) -> str:
    """What a recipe calls a class of steps: its kind, or where it is written; raises RecipeError for what has no place.

    A recipe is read by other processes, too.
    """
    place = f"{step.__module__}:{step.__qualname__}"
    if step.__module__ == "__main__" or "." in step.__qualname__:
        raise RecipeError(f"{place} can be found by no other process: write the class into a module")
    return next((kind for kind, known in KINDS.items() if known == place), place)
