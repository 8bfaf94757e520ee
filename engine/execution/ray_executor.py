"""Ray runs the chains: one Ray Data pipeline over shard ids, an actor pool a stage. Rows are tiny: data is stored.

This is the driver's side: the cluster, and what becomes of a pipeline that is lost. `ray_pipelines` is the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayActorError, RayError, RayTaskError

from ..meters import export_to
from ..rundir.rundir import RunDir
from ..steps.limits import Pool
from ..steps.outcome import Outcome, cause_line
from ..steps.source import copy_sources
from ..storage.scratch import roomiest
from .placement import ClusterError, Machine, ResourceError, check_room, fitting_segments, needed
from .ray_pipelines import Pipelines, RayExporter
from .run_shard import StageSpec
from .worker_log import FOLDER

_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leaves CUDA_VISIBLE_DEVICES alone for workers without a GPU
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its errors reach us as exceptions; its log keeps the rest
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_memory_monitor_refresh_ms": "0",  # Ray would kill supervisors, the system kills their children
}
_LONGEST_TMPDIR = 36  # bytes: the path of a socket has 107 at most, of which Ray adds 70
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_LISTEN_EVERY_S = 0.1
_LOOK_EVERY_S = 1.0  # for nodes that are awaited
_LOST_PIPELINES = 5  # in a row, without a shard done in between
_PIPELINE_ERROR = f"{FOLDER}/pipeline.error.txt"
_SILENCE_S = 20.0  # after the loss of a node, before a pipeline is taken for stuck


def connect(num_cpus: int | None = None, metrics_port: int | None = None, steps: Iterable[type] = ()) -> bool:
    """Connects to RAY_ADDRESS; where that is not set, starts a Ray on this machine, with the given CPUs and port.

    Workers are sent the source of those `steps` that are neither ours nor installed. Where this process is connected
    already, as by a notebook's `ray.init`, that is left as it is. Returns whether it did anything.
    """
    if ray.is_initialized():
        return False
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if len(os.fsencode(os.environ.get("TMPDIR", ""))) > _LONGEST_TMPDIR:
        os.environ.setdefault("RAY_TMPDIR", roomiest(_SHORT_FOLDERS))
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"num_cpus": num_cpus, "include_dashboard": False, "_metrics_export_port": metrics_port}
    options: dict[str, Any] = own if address == "local" else {}
    _check_address(address)
    try:
        with _own_sigterm(), tempfile.TemporaryDirectory() as folder:  # ray.init uploads what lies there
            if modules := copy_sources(steps, Path(folder)):
                options["runtime_env"] = {"py_modules": [str(module) for module in modules]}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
            return True
    except Exception as error:  # Ray raises all kinds, plain ones for a node that does not start in time
        raise ClusterError(f"no Ray at {address}: {(str(error).strip() or repr(error)).splitlines()[0]}") from error


def _is_of_others(has_connected: bool) -> bool:
    """Whether the Ray was there before, so that nodes may still come to it."""
    return not has_connected or os.environ.get("RAY_ADDRESS", "local") != "local"


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Inside, Ray may put its own handler of SIGTERM in place of what is there; that is put back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_address(address: str) -> None:
    """Raises ClusterError if nothing listens at a HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(f"no Ray at {address} (RAY_ADDRESS): {error}") from error


def machines() -> list[Machine]:
    """The nodes of the cluster that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class RayExecutor:
    """Uses the Ray that this process is connected to, else RAY_ADDRESS, else one of its own for its life."""

    def __init__(
        self,
        num_cpus: int | None = None,
        metrics_port: int | None = None,
        steps: Iterable[type] = (),
        wait_s: float = 0.0,
        log: Callable[[str], None] = print,
    ) -> None:
        """`wait_s`: how long to wait for nodes that a cluster lacks; `log` is told of it. A Ray of its own has all."""
        self._has_connected = connect(num_cpus, metrics_port, steps)
        self._wait_s, self._log = wait_s if _is_of_others(self._has_connected) else 0.0, log
        export_to(RayExporter())
        self._pipelines: Any = None  # the actor that runs them, one after the other; made for the first

    def check(self, pools: Mapping[str, Pool]) -> None:
        """Waits until the fewest workers of each step fit into the cluster; raises ResourceError if they do not."""
        end_s, awaited = time.monotonic() + self._wait_s, ""
        try:
            while (lack := _lack(pools)) and time.monotonic() < end_s:
                if str(lack) != awaited:
                    awaited = str(lack)
                    self._log(f"waiting for nodes, {self._wait_s:g} s at most: {awaited}")
                    workers = [needed(pool) for pool in pools.values() for _ in range(pool.min_workers)]
                    request_resources(bundles=workers)  # a cluster that scales itself would not know
                time.sleep(_LOOK_EVERY_S)
        finally:
            if awaited:
                request_resources(bundles=[])  # else nodes that come late would be kept, whatever becomes of this run
        if lack:
            raise lack

    def run_chain(self, chain: Sequence[StageSpec], shards: Sequence[str], run: RunDir) -> Iterator[Outcome]:
        """Yields the outcome of every stage for every shard, as they come.

        A pipeline that is lost with its node, or stuck for want of one, is begun again on what is there. An exception
        is not: it would be the same again.

        Raises:
            ClusterError: a pipeline raises, pipelines are lost one after the other, or a stage does not fit any more.
        """
        progress = _ChainProgress(chain, shards)
        self.check({spec.node: spec.pool for spec in chain})
        while progress.stages_done < len(chain):
            specs = chain[progress.stages_done :]
            try:
                self.check({spec.node: spec.pool for spec in specs})
            except ResourceError as error:
                raise ClusterError(f"the cluster has shrunk: {error}; the same command resumes") from error
            segment = fitting_segments(specs, machines())[0]
            if (yield from self._run_pipeline(segment, progress, run)):
                progress.stages_done += len(segment)
            elif progress.count_lost_pipeline():
                last = f", the last: {_keep(progress.last_error, run)}" if progress.last_error else ""
                lost = f"{_LOST_PIPELINES} Ray Data pipelines were lost one after the other{last}"
                raise ClusterError(f"{lost}; the same command resumes")

    def _run_pipeline(self, segment: Sequence[StageSpec], progress: _ChainProgress, run: RunDir) -> Iterator[Outcome]:
        """Yields the outcomes of a pipeline over chained stages; returns whether it came to its end, or was lost.

        Raises:
            ClusterError: something in it raises; its message is the last line, and where the whole of it lies.
        """
        if self._pipelines is None:
            self._pipelines = Pipelines.start(ray.get_runtime_context().get_node_id())
        running, watch = self._pipelines.execute.remote(segment, *progress.left(segment), run), _Watch()
        has_ended = False
        try:
            while not has_ended:
                ended, _ = ray.wait([running], timeout=_LISTEN_EVERY_S)
                for outcome in ray.get(self._pipelines.take.remote()):
                    watch.record(outcome)
                    if progress.add(outcome):
                        yield outcome
                if ended:
                    ray.get(running)
                    has_ended = True
                elif watch.is_stuck():
                    break
        except RayError as error:
            if not (_was_killed(error) or watch.has_lost_a_node()):
                raise ClusterError(_keep(error, run)) from error
            progress.last_error = error  # the actor's, or of what Ray Data itself kept on the node
        finally:
            if not has_ended:
                self._kill_pipelines()
        return has_ended

    def _kill_pipelines(self) -> None:
        pipelines, self._pipelines = self._pipelines, None
        if pipelines is not None:
            ray.kill(pipelines)  # takes the workers with it

    def close(self) -> None:
        """Leaves the cluster, if this executor has connected to it; one that it started ends."""
        self._kill_pipelines()
        export_to(None)
        if self._has_connected:
            ray.shutdown()


class _ChainProgress:
    """How far a chain has come; outlives the pipelines that bring it further, and does not grow."""

    def __init__(self, chain: Sequence[StageSpec], shards: Sequence[str]) -> None:
        self.stages_done = 0
        self.last_error: RayError | None = None  # of the last pipeline that was lost by one
        self._reported = dict.fromkeys(shards, 0)  # a bit for each stage
        self._bits = {spec.node: 1 << number for number, spec in enumerate(chain)}
        self._stopped: set[str] = set()
        self._lost = 0

    def add(self, outcome: Outcome) -> bool:
        """Takes an outcome in; False if it is known: its worker was lost before the pipeline knew."""
        if self._reported[outcome.shard] & self._bits[outcome.node]:
            return False
        self._reported[outcome.shard] |= self._bits[outcome.node]
        self._lost = 0
        if outcome.status in ("failed", "waiting"):
            self._stopped.add(outcome.shard)
        return True

    def left(self, segment: Sequence[StageSpec]) -> tuple[list[str], list[bool]]:
        """The shards that a pipeline over the stages has to bring through; and which of them an earlier one did not."""
        last = self._bits[segment[-1].node]
        shards = [shard for shard, reported in self._reported.items() if not reported & last]
        return shards, [shard in self._stopped for shard in shards]

    def count_lost_pipeline(self) -> bool:
        """Counts a lost pipeline; True if that happens too often."""
        self._lost += 1
        return self._lost >= _LOST_PIPELINES


class _Watch:
    """Tells when a pipeline is stuck. Ray Data may wait for ever for an actor's place when a node is gone."""

    def __init__(self) -> None:
        self._nodes = self._alive()
        self._heard_s = self._looked_s = time.monotonic()
        self._longest_s = 0.0

    def record(self, outcome: Outcome) -> None:
        """A shard has come through."""
        self._heard_s, self._longest_s = time.monotonic(), max(self._longest_s, outcome.seconds)

    def is_stuck(self) -> bool:
        """Whether a node was lost since the beginning, and nothing was heard for long."""
        now = time.monotonic()
        if now - self._heard_s < _SILENCE_S + 3 * self._longest_s or now - self._looked_s < 1:
            return False
        self._looked_s = now
        return self.has_lost_a_node()

    def has_lost_a_node(self) -> bool:
        """Whether a node that was there at the beginning is gone."""
        return not self._nodes <= self._alive()

    @staticmethod
    def _alive() -> set[str]:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lack(pools: Mapping[str, Pool]) -> ResourceError | None:
    """What the cluster as it is now lacks for the fewest workers of each step."""
    there = machines()
    try:
        for step, pool in pools.items():
            check_room(step, pool, there)
    except ResourceError as error:
        return error
    return None


def _was_killed(error: BaseException) -> bool:
    """Whether an actor's process has ended, which an exception in its constructor does as well, but is no kill."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, RayActorError) and not cause.actor_init_failed


def _keep(error: RayError, run: RunDir) -> str:
    """Leaves an exception with its traceback in the run; returns its last line and where it lies."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()  # Ray's colours
    line = cause_line(text)
    try:
        run.storage.write_bytes(_PIPELINE_ERROR, f"{text}\n".encode(errors="backslashreplace"))
    except OSError as lost:
        return f"{line} (could not be written down: {lost})"
    return f"{line} ({run.storage.address(_PIPELINE_ERROR)})"
