"""Serves the figures of this process to Prometheus, where no Ray does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..engine.meters import METERS, export_to
from .errors import UsageError


class _Exporter:
    """Names meters as Ray does, so that the same dashboards show them."""

    def __init__(self, registry: Any) -> None:
        from prometheus_client import Counter, Gauge

        self._meters: dict[str, Any] = {
            name: (Counter if meter.total else Gauge)(f"ray_{name}", meter.description, meter.tags, registry=registry)
            for name, meter in METERS.items()
        }

    def take(self, name: str, value: float, tags: dict[str, str]) -> None:
        meter = self._meters[name].labels(**tags)
        (meter.inc if METERS[name].total else meter.set)(value)


@contextmanager
def serve_metrics(port: int | None) -> Iterator[None]:
    """Inside, http://HOST:port/metrics; nothing without a port. Raises UsageError where the port is taken."""
    if not port:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise UsageError(f"--metrics-port {port}: {error.strerror}") from error
    export_to(_Exporter(registry))
    try:
        yield
    finally:
        export_to(None)
        server.shutdown()
        server.server_close()
        thread.join()
