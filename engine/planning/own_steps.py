"""Steps that a recipe names by where they are written, `module:Class`: in the folder of the command, or installed."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import traceback
from importlib import import_module, invalidate_caches
from typing import Any

from ..records.column import Column
from ..steps.asset_settings import named_assets
from ..steps.barrier import Barrier
from ..steps.source import hash_source, loaded_hash
from ..steps.step import Stage, Step
from .settings import RecipeError, build_settings

_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class OwnStepError(RecipeError):
    """A recipe whose step is not there, or cannot be made; the message is one clear line."""


class _WrongStepError(ValueError):
    """A place where there is no step; the message is one clear line."""


def build_own_step(place: str, settings: Any, where: str) -> Step:
    """The step of a place `module:Class` with its settings; raises RecipeError whatever is wrong with it."""
    try:
        step = build_settings(_find(place), settings, where)
        _check(step)
    except RecipeError:
        raise
    except _WrongStepError as error:
        raise OwnStepError(f"{where}: {error}") from error
    except Exception as error:  # anybody's code, in any way
        raise OwnStepError(f"{where}: {place}: {_describe(error)}") from error
    return step


def _find(place: str) -> type[Step]:
    if not _PLACE.fullmatch(place):
        raise _WrongStepError(f"{place!r}: write it as MODULE:CLASS")
    module, _, name = place.partition(":")
    found = getattr(_import(module), name, None)
    if found is None:
        raise _WrongStepError(f"module {module!r} has no {name!r}")
    if inspect.isfunction(found):
        raise _WrongStepError(f"{place} is a plain function: put @stage(reads=…, writes=…) above it")
    if not (isinstance(found, type) and issubclass(found, Stage | Barrier)):
        raise _WrongStepError(f"{place} is no step: derive it from Stage, SourceStage or Barrier")
    if "__dataclass_fields__" not in vars(found):
        raise _WrongStepError(f"{place} is no dataclass: put @dataclass above it")
    if not isinstance(getattr(found, "name", None), str):
        raise _WrongStepError(f"{place} has no name: give it one, as in name = {name.lower()!r}")
    _check_source(module.partition(".")[0])
    return found


def _check_source(top: str) -> None:
    try:
        has_changed = hash_source(top) != loaded_hash(top)
    except ValueError as error:
        raise _WrongStepError(str(error)) from error
    if has_changed:
        raise _WrongStepError(f"the source of {top!r} has changed since it was imported; start this process anew")


def _import(module: str) -> Any:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last: nothing there shall stand in for what is installed
    invalidate_caches()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output may be a document
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise _WrongStepError(f"no module {error.name!r}, neither in {os.getcwd()} nor installed") from error
        raise _WrongStepError(f"module {module!r} cannot be imported: {_describe(error)}") from error
    except (Exception, SystemExit) as error:
        raise _WrongStepError(f"module {module!r} cannot be imported: {_describe(error)}") from error


def _check(step: Step) -> None:
    reads, writes = step.reads, step.writes
    if not (isinstance(reads, tuple | list) and all(isinstance(column, str) for column in reads)):
        raise _WrongStepError(f"its reads are {reads!r}: give a tuple of columns")
    if isinstance(step, Stage) and not set(step.alternatives) <= set(reads):
        raise _WrongStepError(f"its alternatives are {step.alternatives!r}: give columns that it reads")
    if not isinstance(writes, Column):
        raise _WrongStepError(f"its writes are {writes!r}: give a TarColumn, a ParquetColumn or a FolderColumn")
    try:
        named_assets(step)
    except TypeError as error:
        raise _WrongStepError(str(error)) from error


def _describe(error: BaseException) -> str:
    """An error of other people's code in one line, with where it was raised."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return words if isinstance(error, SyntaxError) else f"{words} ({last.filename}, line {last.lineno})"
