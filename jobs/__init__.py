"""The command line, and what composes stages and models. The names below are the Python API.

The environment variables must be set before numpy and torch are loaded.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine.planning.recipe import Node as Node
    from ..engine.planning.recipe import Recipe as Recipe
    from ..engine.planning.recipe import RecipeError as RecipeError
    from ..engine.steps.limits import Budget as Budget
    from ..engine.steps.limits import Limits as Limits
    from ..engine.steps.limits import Pool as Pool
    from .notebook import Run as Run
    from .notebook import UnfinishedError as UnfinishedError
    from .notebook import make_recipe as make_recipe
    from .notebook import run as run

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin lose tenfold where cores are shared
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small here, and its threads spin, too

if sys.argv[0] == "-m" and sys.path[0] == os.getcwd():  # `python -m dap_engine.jobs`, before it imports the rest
    sys.path.append(sys.path.pop(0))  # last, as `dap` has it: nothing there shall stand in for what is installed

_NAMES = ("Budget", "Limits", "Node", "Pool", "Recipe", "RecipeError", "Run", "UnfinishedError", "make_recipe", "run")


def __getattr__(name: str) -> Any:
    """Names are imported when they are used: the command line has no need of most."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".notebook", __name__), name)
