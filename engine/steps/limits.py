"""What a recipe allows a map stage: workers, time and attempts for a sample, and how much may be dropped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pool:
    """What a map stage's workers need, each, and how many of them there may be."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_gib: float = 0.0  # also the most that a worker may take; 0: not limited
    min_workers: int = 1
    max_workers: int | None = None  # None: as many as the cluster holds

    def __post_init__(self) -> None:
        if min(self.num_cpus, self.num_gpus, self.memory_gib) < 0 or self.num_cpus + self.num_gpus == 0:
            raise ValueError("a worker needs CPUs or GPUs, and no amount may be negative")
        if self.min_workers < 1 or (self.max_workers is not None and self.max_workers < self.min_workers):
            raise ValueError("min_workers must be at least 1, and max_workers not below it")


@dataclass(frozen=True)
class Limits:
    """When a sample is given up. Its drop is retryable: `dap retry` puts it back."""

    sample_s: float | None = None  # the longest that one sample may take; None: what the stage itself says
    attempts: int = 3  # workers that may die over one sample, once it is tried by itself

    def __post_init__(self) -> None:
        if (self.sample_s is not None and self.sample_s <= 0) or self.attempts < 1:
            raise ValueError("sample_s must be positive, and attempts at least 1")


@dataclass(frozen=True)
class Budget:
    """How much of a map stage may fail. Beyond it the run stops: it is the stage that is wrong, or the footage."""

    max_drop_share: float = 1.0  # of rows and drops together, judged once there are `min_samples` of them
    max_drops: int | None = None
    min_samples: int = 100
    max_failed_in_a_row: int = 10  # shards, none done in between

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop_share <= 1 or min(self.min_samples, self.max_failed_in_a_row) < 1:
            raise ValueError("max_drop_share must be 0 to 1, min_samples and max_failed_in_a_row at least 1")
        if self.max_drops is not None and self.max_drops < 0:
            raise ValueError("max_drops may not be negative")
