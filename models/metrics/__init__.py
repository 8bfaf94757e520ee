"""Metrics of depth maps. `depth_metrics` is imported when it is first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .depth import depth_metrics

__all__ = ["depth_metrics"]


def __getattr__(name: str) -> Any:
    if name != "depth_metrics":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .depth import depth_metrics

    return depth_metrics
