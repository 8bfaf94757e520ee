"""What a recipe expects of its cluster, and of columns that cannot be looked at yet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """What is expected of the cluster that runs a recipe."""

    wait_s: float = 0.0  # for nodes that a step needs and the cluster lacks; 0: refuse at once

    def __post_init__(self) -> None:
        if not self.wait_s >= 0:
            raise ValueError("wait_s cannot be negative")


@dataclass(frozen=True)
class Expected:
    """How large a column will be, for a plan that cannot look."""

    samples: int
    shards: int = 1

    def __post_init__(self) -> None:
        if self.samples < 0 or self.shards < 1:
            raise ValueError("samples cannot be negative, and shards must be at least 1")
