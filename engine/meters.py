"""Figures of a run for whoever watches it from outside; without an exporter (on Ray: Ray's) they go nowhere."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .steps.outcome import Outcome


class Meter(NamedTuple):
    """What is measured. `total`: it only grows, else it is as it is now."""

    description: str
    tags: tuple[str, ...]
    total: bool = True


METERS = {
    "dap_shards": Meter("Shards, by what became of them.", ("stage", "status")),
    "dap_samples": Meter("Samples in and out.", ("stage", "direction")),
    "dap_bytes_written": Meter("Bytes of finished outputs.", ("stage",)),
    "dap_seconds": Meter("Seconds that workers took for finished shards, or the driver for a barrier.", ("stage",)),
    "dap_predict_seconds": Meter("Seconds of these that a model was at work.", ("stage",)),
    "dap_drops": Meter("Samples dropped, by code.", ("stage", "code")),
    "dap_wait_seconds": Meter("Seconds that shards waited for a worker, after the stage before.", ("stage",)),
    "dap_idle_seconds": Meter("Seconds that workers waited for a shard, after their last one.", ("stage",)),
    "dap_running": Meter("1 while a stage or barrier has work.", ("stage",), total=False),
    "dap_shards_left": Meter("Shards still to be done.", ("stage",), total=False),
    "dap_shards_queued": Meter("Shards of these that a worker could do now, or does.", ("stage",), total=False),
    "dap_training_step": Meter("Steps of a training.", ("model",), total=False),
    "dap_training": Meter("Its last figures, as in metrics.csv.", ("model", "figure"), total=False),
}
"""Prometheus has them as `ray_<name>`, totals as `ray_<name>_total`."""


class Exporter(Protocol):
    """Takes figures of this process."""

    def take(self, name: str, value: float, tags: dict[str, str]) -> None:
        """More of a total, or the value of another meter."""


_exporters: list[Exporter] = []  # none, or one


def export_to(exporter: Exporter | None) -> None:
    """From now on this process's figures go to `exporter`; None: nowhere."""
    _exporters[:] = [exporter] if exporter else []


def measure(name: str, value: float, **tags: str) -> None:
    """More of a total, or the value of another meter of `METERS`."""
    for exporter in _exporters:
        if value > 0 or not METERS[name].total:
            exporter.take(name, value, tags)


def measure_outcome(outcome: Outcome) -> None:
    """All that a shard adds to the totals."""
    stage = outcome.node
    measure("dap_shards", 1, stage=stage, status=outcome.status)
    if outcome.status != "done":
        return
    measure("dap_samples", outcome.samples_in, stage=stage, direction="in")
    measure("dap_samples", outcome.samples_out, stage=stage, direction="out")
    measure("dap_bytes_written", outcome.bytes, stage=stage)
    measure("dap_seconds", outcome.seconds, stage=stage)
    measure("dap_predict_seconds", outcome.predict_seconds, stage=stage)
    for code, count in outcome.drops.items():
        measure("dap_drops", count, stage=stage, code=code)
