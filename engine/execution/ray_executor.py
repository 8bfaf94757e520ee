"""Ray runs the chains: one Ray Data pipeline over shard ids, an actor pool a stage. Rows are tiny: data is stored."""

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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util import metrics
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..rundir.rundir import RunDir
from ..steps.limits import Pool
from ..steps.outcome import Outcome, cause_line, failed
from ..steps.source import copy_sources
from ..storage.scratch import roomiest
from .placement import ClusterError, Machine, ResourceError, check_room, fitting_segments
from .run_shard import StageSpec
from .supervisor import Supervisor
from .worker_log import FOLDER, WorkerLog

_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leaves CUDA_VISIBLE_DEVICES alone for workers without a GPU
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its errors reach us as exceptions; its log keeps the rest
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_memory_monitor_refresh_ms": "0",  # Ray would kill supervisors, the system kills their children
}
_LONGEST_TMPDIR = 36  # bytes: the path of a socket has 107 at most, of which Ray adds 70
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_MOST_BLOCKS = 4096  # of a pipeline, which costs some KB for each; beyond, a block holds several shards
_LISTEN_EVERY_S = 0.1
_LOST_WORKERS = 3  # more may be lost over one shard than may die over a sample: a node that goes takes all it has
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
        self, num_cpus: int | None = None, metrics_port: int | None = None, steps: Iterable[type] = ()
    ) -> None:
        self._has_connected = connect(num_cpus, metrics_port, steps)

    def check(self, pools: Mapping[str, Pool]) -> None:
        """Raises ResourceError if the fewest workers of one step do not fit into the cluster."""
        there = machines()
        for step, pool in pools.items():
            check_room(step, pool, there)

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
            if (yield from _run_pipeline(segment, progress, run)):
                progress.stages_done += len(segment)
            elif progress.count_lost_pipeline():
                last = f", the last: {_keep(progress.last_error, run)}" if progress.last_error else ""
                lost = f"{_LOST_PIPELINES} Ray Data pipelines were lost one after the other{last}"
                raise ClusterError(f"{lost}; the same command resumes")

    def close(self) -> None:
        """Leaves the cluster, if this executor has connected to it; one that it started ends."""
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


def _run_pipeline(segment: Sequence[StageSpec], progress: _ChainProgress, run: RunDir) -> Iterator[Outcome]:
    """Yields the outcomes of a pipeline over chained stages; returns whether it came to its end, False if it was lost.

    Raises:
        ClusterError: something in it raises; its message is the last line, and where the whole of it lies.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    channel: Any = _OutcomeChannel.options(scheduling_strategy=here).remote()
    pipeline: Any = _Pipeline.options(scheduling_strategy=here).remote()
    running, watch = pipeline.execute.remote(segment, *progress.left(segment), run, channel), _Watch()
    try:
        while True:
            ended, _ = ray.wait([running], timeout=_LISTEN_EVERY_S)
            for outcome in ray.get(channel.take.remote()):
                watch.record(outcome)
                if progress.add(outcome):
                    yield outcome
            if ended:
                ray.get(running)
                return True
            if watch.is_stuck():
                return False
    except RayError as error:
        if _was_killed(error) or watch.has_lost_a_node():
            progress.last_error = error
            return False  # the pipeline or its channel, or what Ray Data itself kept on the node
        raise ClusterError(_keep(error, run)) from error
    finally:
        ray.kill(pipeline)  # takes the workers with it
        ray.kill(channel)


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


@ray.remote(num_cpus=0)
class _OutcomeChannel:
    """Hears of a shard as it leaves a stage: Ray Data hands it out only when it has been through all of them."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._begun: Counter[tuple[str, str]] = Counter()

    def begin(self, node: str, shard: str) -> int:
        """How many workers have begun with a shard."""
        self._begun[node, shard] += 1
        return self._begun[node, shard]

    def report(self, outcome: Outcome) -> None:
        """A shard has been through a stage."""
        self._outcomes.append(outcome)

    def take(self) -> list[Outcome]:
        """What was reported since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken


@ray.remote(num_cpus=0)
class _Pipeline:
    """Executes a Ray Data pipeline. As an actor of its own it can be killed, and takes its pools with it."""

    def execute(
        self, specs: Sequence[StageSpec], shards: list[str], stopped: list[bool], run: RunDir, channel: Any
    ) -> None:
        """Brings the shards through the stages; those that are `stopped` only by name."""
        _quiet_ray_data()
        rows = [{"shard": shard, "stopped": is_stopped} for shard, is_stopped in zip(shards, stopped, strict=True)]
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        for spec in specs:
            dataset = _add_stage(dataset, spec, run, channel, len(rows))
        for _ in dataset.iter_rows():
            pass


def _add_stage(dataset: ray.data.Dataset, spec: StageSpec, run: RunDir, channel: Any, shards: int) -> ray.data.Dataset:
    pool = spec.pool
    most = max(pool.min_workers, min(shards, pool.max_workers or shards))
    return dataset.map(
        _Worker,  # type: ignore[arg-type] - a class whose instances take rows
        fn_constructor_args=(spec, run, channel),
        compute=ActorPoolStrategy(min_size=min(pool.min_workers, shards), max_size=most),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
        memory=pool.memory_gib * 2**30 or None,
    )


class _Worker:
    """One worker of one stage. Ray starts another one if it is lost, and that one does the shard."""

    def __init__(self, spec: StageSpec, run: RunDir, channel: Any) -> None:
        self._spec, self._run, self._channel = spec, run, channel
        self._log, self._meters = WorkerLog(run, spec.node), _Meters(spec.node)
        self._supervisor = Supervisor(spec, run, self._log.file)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcome = self._run_shard(row["shard"], row["stopped"])
        self._log.add(outcome)
        self._meters.add(outcome)
        ray.get(self._channel.report.remote(outcome))
        return {"shard": outcome.shard, "stopped": outcome.status in ("failed", "waiting")}

    def _run_shard(self, shard: str, stopped: bool) -> Outcome:
        spec = self._spec
        if stopped:
            return Outcome(spec.node, spec.column, shard, "waiting")
        begun: Any = ray.get(self._channel.begin.remote(spec.node, shard))
        if begun > spec.limits.attempts + _LOST_WORKERS:
            why = f"{begun - 1} workers were lost over it, killed from outside (for their memory, perhaps)"
            return failed(spec.node, spec.column, self._run, shard, why)
        return self._supervisor.run(shard)


class _Meters:
    """What Prometheus can scrape from every node: totals by stage."""

    def __init__(self, node: str) -> None:
        self._stage = {"stage": node}
        self._shards = metrics.Counter("dap_shards", "Shards, by what became of them.", ("stage", "status"))
        self._samples = metrics.Counter("dap_samples", "Samples in and out.", ("stage", "direction"))
        self._bytes = metrics.Counter("dap_bytes_written", "Bytes of finished outputs.", ("stage",))
        self._seconds = metrics.Counter("dap_seconds", "Seconds that workers took for finished shards.", ("stage",))
        self._drops = metrics.Counter("dap_drops", "Samples dropped, by code.", ("stage", "code"))

    def add(self, outcome: Outcome) -> None:
        """Counts a shard."""
        self._count(self._shards, 1, status=outcome.status)
        if outcome.status == "done":
            self._count(self._samples, outcome.samples_in, direction="in")
            self._count(self._samples, outcome.samples_out, direction="out")
            self._count(self._bytes, outcome.bytes)
            self._count(self._seconds, outcome.seconds)
            for code, count in outcome.drops.items():
                self._count(self._drops, count, code=code)

    def _count(self, counter: metrics.Counter, amount: float, **tags: str) -> None:
        if amount > 0:  # Ray refuses to count nothing
            counter.inc(amount, {**self._stage, **tags})


def _quiet_ray_data() -> None:
    """Progress is shown per stage by the engine; Ray Data's own lines would stand between."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
