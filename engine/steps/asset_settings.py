"""Settings that name an asset, told by their type: what counts of an asset is its content, wherever it lies."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

AssetUri = Annotated[str, "asset"]
"""Weights, or a file or folder that is loaded like them: a local path, a hub id, or `run:COLUMN/NAME` of this run."""


def named_assets(settings: Any) -> dict[str, str]:
    """The assets that a dataclass of settings names, also in dataclasses within: URIs by field, or key of a mapping.

    Those of one name are told apart by the fields that lead to them: `teacher.backbone`, `student.backbone`.

    Raises:
        TypeError: a setting is a list of assets, which have no names.
    """
    found = list(_places(settings))
    times = Counter(place[-1] for place, _ in found)
    return {place[-1] if times[place[-1]] == 1 else ".".join(place): uri for place, uri in found if uri}


def _places(settings: Any) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Every asset that could be named, with the fields and keys that lead to it."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            yield from (((entry.name, *place), uri) for place, uri in _places(value))
        elif _asset_fields(type(settings))[entry.name]:
            if isinstance(value, dict):
                yield from (((entry.name, key), uri) for key, uri in value.items())
            else:
                yield (entry.name,), value


def without_assets(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as plain values, without the fields that name assets."""
    plain = dataclasses.asdict(settings)
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            plain[entry.name] = without_assets(value)
        elif _asset_fields(type(settings))[entry.name]:
            del plain[entry.name]
    return plain


@cache
def _asset_fields(kind: type) -> dict[str, bool]:
    hints = get_type_hints(kind, include_extras=True)
    return {entry.name: names_asset(hints[entry.name], entry.name) for entry in dataclasses.fields(kind)}


def names_asset(hint: Any, name: str) -> bool:
    """Whether a setting of this type names assets; raises TypeError for a list of them."""
    if hint == AssetUri:
        return True
    found = any(names_asset(arg, name) for arg in get_args(hint))
    if found and get_origin(hint) not in (Union, UnionType, dict):
        raise TypeError(f"setting {name!r}: an asset needs a name: give an AssetUri, or a dict[str, AssetUri]")
    return found
