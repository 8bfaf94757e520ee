"""Networks, losses, spherical geometry, metrics and loaders. The names below are imported when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference.predictor import DepthPredictor
    from .network.config import DapConfig
    from .network.dap import DapModel
    from .network.processor import DapImageProcessor

__all__ = ["DapConfig", "DapImageProcessor", "DapModel", "DepthPredictor"]

_MODULES = {
    "DapConfig": ".network.config",
    "DapImageProcessor": ".network.processor",
    "DapModel": ".network.dap",
    "DepthPredictor": ".inference.predictor",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
