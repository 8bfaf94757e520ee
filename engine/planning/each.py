"""`each` in a recipe: one step written down, a step of every combination of values run.

    student:
      step: train
      each: {data: [all, selected], seed: [1, 2, 3]}
      model: "student-${each.data}-${each.seed}"
      network: {size: tiny, seed: "${each.seed}"}

makes `student-all-1` … `student-selected-3`. `${each.NAME}` stands for the value, in a longer text too. A value that is
no plain word is given a name: `each: {rate: {low: 1.0e-4, high: 1.0e-3}}`. `"${all.student}"` in another step stands
for all of them: a mapping from the names of the steps to what they make, as `run:models/…`. Several such words, with
spaces between, stand for one mapping of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from typing import Any

from .settings import RecipeError

_EACH = re.compile(r"\$\{each\.(\w+)\}")
_ALL = re.compile(r"\$\{all\.([a-z0-9-]+)\}")
_SEVERAL = re.compile(rf"{_ALL.pattern}(?: +{_ALL.pattern})*")
_WORD = re.compile(r"[a-z0-9-]+")


def expand(name: str, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps, by name, that a step of a recipe stands for: itself, if it has no `each`; raises RecipeError."""
    settings = dict(settings)
    axes = _axes(name, settings.pop("each")) if "each" in settings else []
    steps = {}
    for choice in product(*(options.items() for _, options in axes)):
        values = {axis: chosen for (axis, _), chosen in zip(axes, choice, strict=True)}
        steps["-".join([name, *(word for word, _ in choice)])] = _substituted(settings, values, name)
    return steps


def _axes(name: str, each: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every name of `each` with its values by the word that stands for them in names."""
    if not isinstance(each, dict) or not each:
        raise RecipeError(f"step {name!r}: each needs names with lists of values, such as {{seed: [1, 2, 3]}}")
    axes = []
    for axis, values in each.items():
        options = values if isinstance(values, dict) else {}
        if isinstance(values, list):
            options = {str(value): value for value in values}
            if len(options) < len(values):
                raise RecipeError(f"step {name!r}: each.{axis} names a value twice")
        if not options or not all(isinstance(word, str) and _WORD.fullmatch(word) for word in options):
            raise RecipeError(f"step {name!r}: each.{axis} needs values that are words, or words with values")
        axes.append((str(axis), options))
    return axes


def _substituted(value: Any, values: Mapping[str, tuple[str, Any]], step: str) -> Any:
    if isinstance(value, dict):
        return {_substituted(key, values, step): _substituted(item, values, step) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, values, step) for item in value]
    if not isinstance(value, str):
        return value
    if unknown := sorted(set(_EACH.findall(value)) - set(values)):
        raise RecipeError(f"step {step!r}: ${{each.{unknown[0]}}} stands there, but each has no {unknown[0]!r}")
    if match := _EACH.fullmatch(value):
        return values[match[1]][1]
    return _EACH.sub(lambda match: values[match[1]][0], value)


def names_all(settings: Any) -> bool:
    """Whether `${all.STEP}` stands somewhere in the settings."""
    if isinstance(settings, dict):
        return any(map(names_all, settings.values()))
    if isinstance(settings, list):
        return any(map(names_all, settings))
    return isinstance(settings, str) and _SEVERAL.fullmatch(settings) is not None


def with_all(settings: Any, made: Mapping[str, Mapping[str, str]]) -> Any:
    """The settings with every `${all.STEP}` replaced; `made`: by step, what each of the steps made of it makes."""
    if isinstance(settings, dict):
        return {key: with_all(value, made) for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_all(value, made) for value in settings]
    if not isinstance(settings, str) or not _SEVERAL.fullmatch(settings):
        return settings
    steps = _ALL.findall(settings)
    if missing := [step for step in steps if step not in made]:
        raise RecipeError(f"{settings} is in the recipe, but {missing[0]!r} is no step, or comes later and names all")
    return {name: what for step in steps for name, what in made[step].items()}
