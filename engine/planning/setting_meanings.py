"""What the settings of a dataclass are, as text for people: names, types, defaults, and what their source says of them.

The meaning of a field is the comment at the end of its line, or the docstring below it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Collection, Iterator
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml


class Setting(NamedTuple):
    """A setting by its path, such as `batches.seed`; `default` is as in YAML, or `required`."""

    path: str
    type: str
    default: str
    meaning: str


def settings_of(cls: type, without: Collection[str] = (), prefix: str = "") -> Iterator[Setting]:
    """All settings of a dataclass; those of a dataclass in it follow one by one."""
    hints, meanings = get_type_hints(cls), _meanings(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if field.name in without:
            continue
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from settings_of(kind, prefix=f"{prefix}{field.name}.")
        else:
            yield Setting(prefix + field.name, _type_name(kind), _default(field), meanings.get(field.name, ""))


def settings_text(cls: type, without: Collection[str] = (), width: int = 110) -> str:
    """A line or more for each of `settings_of`."""
    lines = []
    for setting in settings_of(cls, without):
        lines.append(f"  {setting.path}: {setting.type} = {setting.default}")
        lines += textwrap.wrap(setting.meaning, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _type_name(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(parts)
    if origin is Annotated:
        return _type_name(parts[0])
    names = ["none" if part is type(None) else _type_name(part) for part in parts]
    if origin in (Union, UnionType):
        return " or ".join(names)
    name = getattr(origin or kind, "__name__", str(kind)).lower()
    return f"{name}[{', '.join(names)}]" if names else name


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    if field.default is dataclasses.MISSING:
        return "required"
    return yaml.safe_dump(field.default).splitlines()[0]


def _meanings(cls: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in (base for base in reversed(cls.__mro__) if "__dataclass_fields__" in vars(base)):
        source = textwrap.dedent(inspect.getsource(base))
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for node, after in pairwise([*definition.body, ast.Pass()]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                meaning = source.splitlines()[(node.end_lineno or 1) - 1].partition("#")[2]
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    meaning = str(after.value.value)
                found[node.target.id] = " ".join(meaning.split())
    return found
