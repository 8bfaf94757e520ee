"""Networks, losses, geometry, metrics and loaders; here, names that most people want, imported when they are used."""

from importlib import import_module
from typing import Any

_NAMES = {
    "DapConfig": ".network.dap",
    "DapModel": ".network.dap",
    "DepthPredictor": ".inference.predictor",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NAMES[name], __name__), name)
