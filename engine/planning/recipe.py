"""Recipes: YAML read safely, checked completely, and turned into typed steps before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..steps.assets import RUN_SCHEME
from ..steps.limits import Budget, Limits, Pool
from ..steps.step import Stage, Step
from .each import expand, names_all, with_all
from .expectations import Cluster, Expected
from .own_steps import build_own_step
from .settings import RecipeError, build_settings, did_you_mean, override_setting, parse_override, read_yaml

_TOP_LEVEL = {"name", "seed", "videos", "photos", "executor", "cluster", "expects", "steps"}
_EXECUTORS = ("ray", "in-process")
_ALLOWANCES = {"pool": Pool, "limits": Limits, "budget": Budget}  # what map stages have beside their settings
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Node:
    """A named step of a recipe."""

    name: str
    step: Step
    pool: Pool = field(default_factory=Pool)
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    family: str = ""  # the step of the recipe whose `each` made this one; its name selects all of them

    @property
    def workers(self) -> Pool | None:
        """The workers that the step takes on a cluster; None for a barrier that runs in the driver."""
        return self.pool if isinstance(self.step, Stage) else self.step.workers()


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: typed nodes, and the resolved document to save beside the output."""

    name: str
    executor: str
    nodes: tuple[Node, ...]
    document: Mapping[str, Any]
    cluster: Cluster = field(default_factory=Cluster)
    expects: Mapping[str, Expected] = field(default_factory=dict)  # by column: for plans alone

    def to_yaml(self) -> str:
        """The resolved recipe."""
        return yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True)


def load_recipe(
    text: str, steps: Mapping[str, type[Step]], overrides: Sequence[str] = (), file: str = "recipe"
) -> Recipe:
    """Parses, overrides (`step.key=value`, `seed=1`), resolves `${name}` and builds every step; raises RecipeError.

    `file`: where the text was read, for messages.
    """
    try:
        document = read_yaml(text, file)
    except RecipeError as error:
        raise RecipeError(f"not a recipe: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("steps"), dict) or not document["steps"]:
        raise RecipeError("not a recipe: it needs a mapping `steps:` of named steps")
    for override in overrides:
        _override(document, override)
    _check_top_level(document)
    document = _substitute(document, document)
    if wrong := next((name for name, settings in document["steps"].items() if not isinstance(settings, dict)), None):
        raise RecipeError(f"step {wrong!r} needs settings, `step: KIND` the first of them")
    nodes, settings = _build_nodes(document["steps"], steps)
    cluster = build_settings(Cluster, document.get("cluster", {}), "cluster")
    resolved = {**document, "steps": settings}
    expects = _expected(document.get("expects", {}))
    return Recipe(document.get("name", "run"), document.get("executor", "ray"), nodes, resolved, cluster, expects)


def _expected(written: Any) -> dict[str, Expected]:
    if not isinstance(written, dict):
        raise RecipeError("expects: write it as {COLUMN: {samples: N, shards: N}}")
    return {column: build_settings(Expected, size, f"expects: {column}") for column, size in written.items()}


def _build_nodes(
    written: Mapping[str, dict[str, Any]], steps: Mapping[str, type[Step]]
) -> tuple[tuple[Node, ...], dict[str, dict[str, Any]]]:
    """The nodes in the order written, and the settings of each; those that name all of others are built last."""
    settings: dict[str, dict[str, Any]] = {}
    family: dict[str, str] = {}
    for name, one in written.items():
        for member, its in expand(name, one).items():
            if member in settings:
                raise RecipeError(f"two steps would be called {member!r}")
            settings[member], family[member] = its, name
    nodes: dict[str, Node] = {}
    for member in sorted(settings, key=lambda member: names_all(settings[member])):  # a stable sort
        if names_all(settings[member]):
            settings[member] = with_all(settings[member], _made(nodes.values(), family))
        nodes[member] = _build_node(member, dict(settings[member]), steps, family[member])
    return tuple(nodes[member] for member in settings), settings


def _made(nodes: Iterable[Node], family: Mapping[str, str]) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    for node in nodes:
        made.setdefault(family[node.name], {})[node.name] = RUN_SCHEME + node.step.produces
    return made


def _check_top_level(document: Mapping[str, Any]) -> None:
    if unknown := sorted(str(name) for name in set(document) - _TOP_LEVEL):
        raise RecipeError(
            f"unknown setting {unknown[0]!r} at the top of the recipe{did_you_mean(unknown[0], _TOP_LEVEL)}"
        )
    if (executor := document.get("executor", "ray")) not in _EXECUTORS:
        raise RecipeError(f"executor {executor!r} is not one of {list(_EXECUTORS)}")


def _override(document: dict[str, Any], override: str) -> None:
    keys, _ = parse_override(override)
    if len(keys) == 1 and (keys[0] not in _TOP_LEVEL or keys[0] == "steps"):
        at_top = _TOP_LEVEL - {"steps"}
        raise RecipeError(
            f"--set {override!r}: {keys[0]!r} is no setting at the top of a recipe{did_you_mean(keys[0], at_top)}"
        )
    is_at_top = len(keys) == 1 or (keys[0] in ("cluster", "expects") and keys[0] not in document["steps"])
    if not is_at_top and keys[0] not in document["steps"]:
        raise RecipeError(f"--set {override!r}: no step {keys[0]!r}{did_you_mean(keys[0], document['steps'])}")
    override_setting(document if is_at_top else document["steps"], override)


def _substitute(value: Any, document: Mapping[str, Any]) -> Any:
    """Replaces a value that is exactly `${name}` by the setting of that name at the top of the recipe."""
    if isinstance(value, dict):
        return {key: _substitute(item, document) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, document) for item in value]
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{(\w+)\}", value)):
        if match[1] not in document:
            raise RecipeError(f"{value} stands in the recipe, but {match[1]!r} is not set at its top")
        return document[match[1]]
    return value


def _build_node(name: str, settings: dict[str, Any], steps: Mapping[str, type[Step]], family: str) -> Node:
    if not _NAME.fullmatch(str(name)):
        raise RecipeError(f"step name {name!r}: use lower-case letters, digits and '-'")
    kind = settings.pop("step", None)
    is_own = isinstance(kind, str) and ":" in kind
    if not is_own and (not isinstance(kind, str) or kind not in steps):
        raise RecipeError(f"step {name!r}: no kind of step, nor MODULE:CLASS: {kind!r}{did_you_mean(kind, steps)}")
    allowances = {key: settings.pop(key) for key in _ALLOWANCES if settings.get(key) is not None}
    where = f"step {name!r}"
    step = build_own_step(kind, settings, where) if is_own else build_settings(steps[kind], settings, where)
    if isinstance(step, Stage) and step.batch_size < 1:
        raise RecipeError(f"step {name!r}: batch_size must be at least 1")
    if allowances and not isinstance(step, Stage):
        raise RecipeError(f"step {name!r}: only map stages have {' and '.join(allowances)}")
    allowed = {key: _allowance(name, key, value) for key, value in allowances.items()}
    return Node(name, step, **allowed, family=family if family != name else "")


def _allowance(name: str, key: str, settings: Any) -> Any:
    return build_settings(_ALLOWANCES[key], settings, where=f"step {name!r}: {key}")
