"""What a job takes along to the cluster: its recipe, the modules of the user's own steps and, on wish, this package."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from ...engine.steps.source import copy_sources

_PACKAGE = __name__.partition(".")[0]
_ROOMS = ("engine", "stages", "models", "jobs")


def pack_luggage(folder: Path, recipe: str, steps: Iterable[type], with_package: bool) -> None:
    """Fills the folder that becomes the job's working directory. `recipe`: its text, empty if there is none."""
    if recipe:
        (folder / "recipe.yaml").write_text(recipe)
    copy_sources(steps, folder)
    for room in _ROOMS if with_package else ():
        (source,) = import_module(f"{_PACKAGE}.{room}").__path__
        shutil.copytree(source, folder / _PACKAGE / room, ignore=shutil.ignore_patterns("__pycache__", ".*"))
