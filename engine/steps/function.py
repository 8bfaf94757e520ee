"""A map stage made of a plain function, whose parameters are its settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, get_type_hints

from ..records.column import Column
from ..records.sample import Drop, Row, Sample
from .asset_settings import AssetUri, names_asset
from .step import Stage, StageContext

_TAKEN = {*dir(Stage), "name", "function", "_assets"}

Function = Callable[..., Iterable[Row | Drop]]


def stage(*, reads: Sequence[str], writes: Column) -> Callable[[Function], type[Stage]]:
    """Turns `function(samples, **settings)`, which yields a row or a drop for each sample, into a kind of map stage.

    The stage has the function's name. Each further parameter is a setting: it needs a type, and may have a default.
    One of type `AssetUri` is handed to the function as the local path of the asset, or as its hub id.
    The function gets a batch at a time, `batch_size` samples, keys rising. It stays at hand as `function` of the stage.

    Raises:
        TypeError: a parameter that cannot be a setting, or `reads` is no list of columns.
    """
    if isinstance(reads, str):
        raise TypeError(f"reads={reads!r}: give a list of columns")

    def to_stage(function: Function) -> type[Stage]:
        settings = _settings(function)

        def setup(self: Any, context: StageContext) -> None:
            self._assets = {name: context.assets[name] for name, *_ in settings if name in context.assets}

        def process(self: Any, batch: list[Sample]) -> Iterator[Row | Drop]:
            yield from function(batch, **{name: getattr(self, name) for name, *_ in settings} | self._assets)

        members: dict[str, Any] = {"name": function.__name__, "reads": tuple(reads), "writes": writes}
        members |= {"setup": setup, "process": process, "_assets": {}}
        members |= {"function": staticmethod(function), "__doc__": function.__doc__, "__module__": function.__module__}
        made = dataclasses.make_dataclass(
            function.__name__, [*settings, ("batch_size", int, 1)], bases=(Stage,), namespace=members, kw_only=True
        )
        made.__qualname__ = function.__qualname__  # a stage is sent to workers by its name
        return made

    return to_stage


def _settings(function: Function) -> list[Any]:
    """Name, type and default of every parameter but the first, as `make_dataclass` takes them."""
    hints = get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        where = f"{function.__name__}: its setting {parameter.name!r}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where} cannot be given by name")
        if parameter.name in _TAKEN:
            raise TypeError(f"{where} has a name that every stage uses itself: choose another")
        if parameter.name not in hints:
            raise TypeError(f"{where} has no type")
        hint = hints[parameter.name]
        if names_asset(hint, parameter.name) and hint not in (AssetUri, AssetUri | None):  # type: ignore[operator]
            raise TypeError(f"{where} holds several assets: give each a parameter of its own")
        has_default = parameter.default is not parameter.empty
        fields.append((parameter.name, hint, *([parameter.default] if has_default else [])))
    return fields
