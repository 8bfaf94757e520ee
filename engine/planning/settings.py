"""Settings of a recipe: YAML values checked against the annotations of a dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonargparse
import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode


def read_yaml(text: str, file: str) -> Any:
    """The value of a YAML text; raises RecipeError, which names the file, also where a mapping has a key twice."""
    try:
        return yaml.load(text, _UniqueKeys)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(" ".join(str(error).replace("<unicode string>", file).split())) from error


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, of which YAML would take the last."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise ComposerError(None, None, f"the key {key.value!r} stands there twice", key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def build_settings(cls: type, settings: Any, where: str) -> Any:
    """An instance of a dataclass from plain settings, all checked against their annotations; raises RecipeError."""
    if not isinstance(settings, dict):
        raise RecipeError(f"{where}: needs settings, not {settings!r}")
    _check_names(cls, settings, where)
    hints = get_type_hints(cls)
    for name, value in settings.items():
        if value is None and name in hints and type(None) not in get_args(hints[name]):
            raise RecipeError(f"{where}: {name} is empty")
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{where}: {name} must be a finite number")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    for entry in dataclasses.fields(cls):
        parser.add_argument(f"--{entry.name}", type=hints[entry.name], required=_has_no_default(entry))
    try:
        parsed = parser.instantiate(parser.parse_object(settings, defaults=False))
        return cls(**{entry.name: parsed[entry.name] for entry in dataclasses.fields(cls) if entry.name in settings})
    except (jsonargparse.ArgumentError, ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {_one_line(error)}") from error


def _check_names(cls: type, settings: dict[Any, Any], where: str) -> None:
    """Refuses a setting that there is not, also of settings within."""
    hints, known = get_type_hints(cls), [entry.name for entry in dataclasses.fields(cls)]
    for name, value in settings.items():
        if name not in known:
            raise RecipeError(f"{where}: no setting {name!r}{did_you_mean(name, known)}")
        kinds = get_args(hints[name]) if get_origin(hints[name]) in (Union, UnionType) else (hints[name],)
        within = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
        if isinstance(value, dict) and len(within) == 1:
            _check_names(within[0], value, f"{where}: {name}")


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """The known word that is likest, as the end of a message; else all of them."""
    words = list(known)
    likest = difflib.get_close_matches(str(word), words, n=1)
    return f"; did you mean {likest[0]!r}?" if likest else f"; known are {sorted(words)}"


def override_setting(settings: dict[str, Any], override: str) -> None:
    """Puts the value of `some.key=value`, which is YAML, into nested settings; raises RecipeError."""
    keys, value = parse_override(override)
    for key in keys[:-1]:
        settings = settings.setdefault(key, {})
        if not isinstance(settings, dict):
            raise RecipeError(f"--set {override!r}: {key!r} holds a value, not settings")
    settings[keys[-1]] = value


def parse_override(override: str) -> tuple[list[str], Any]:
    path, separator, value = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise RecipeError(f"--set {override!r}: write it as step.key=value")
    if keys in (["videos"], ["photos"]):
        return keys, value  # a path or pattern as it stands: `*.mp4` and `a #2` mean something else in YAML
    try:
        return keys, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override!r}: the value is not YAML") from error


def _has_no_default(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace("<class '", "").replace("'>", "")


class RecipeError(ValueError):
    """A recipe that cannot run; the message is one clear line."""
