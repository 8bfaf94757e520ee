"""Settings that name an asset, told by their type: what counts of an asset is its content, wherever it lies."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

AssetUri = Annotated[str, "asset"]
"""Weights, or a file or folder that is loaded like them: a local path, a hub id, or `run:COLUMN/NAME` of this run."""


def named_assets(settings: Any) -> dict[str, str]:
    """The assets that a dataclass of settings names, also in dataclasses within: URIs by field, or key of a mapping."""
    found: dict[str, str] = {}
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            found |= named_assets(value)
        elif _asset_fields(type(settings))[entry.name] and value:
            found |= value if isinstance(value, dict) else {entry.name: value}
    return found


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
    return {entry.name: _names_asset(hints[entry.name]) for entry in dataclasses.fields(kind)}


def _names_asset(hint: Any) -> bool:
    return hint == AssetUri or any(map(_names_asset, get_args(hint)))
