"""What a stage takes, measured on the first samples of one shard: time, memory, bytes."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event

from ..execution.run_shard import ShardRunner, StageSpec
from ..records.column import Column, FolderColumn, TarColumn
from ..records.rows import merge_on_key
from ..records.sample import Sample
from ..rundir.commit import delete_output
from ..rundir.receipts import Receipt
from ..rundir.rundir import RunDir
from ..steps.step import PipelinedStage, SourceStage

_MOST_SAMPLES = 64  # or two batches, if those are more
_LONG_ENOUGH_S = 10.0  # then no further batch is begun,
_TOO_LONG_S = 60.0  # and if the first batch alone took this long, no second one


class ProbeError(RuntimeError):
    """A stage that did not come through its probe: why, and where more of it is written, if anything is."""

    def __init__(self, why: str, log: str = "") -> None:
        super().__init__(why)
        self.log = log


@dataclass(frozen=True)
class ProbeSpec:
    """What to probe: a stage, a shard, where each of its inputs lies, and the run directory that takes the output."""

    stage: StageSpec
    shard: str
    inputs: dict[str, tuple[RunDir, Receipt]]
    home: RunDir  # holds assets, and objects that samples name
    made: RunDir


@dataclass(frozen=True)
class Measured:
    """What a stage took, and what came out. Times are those of one worker that has the machine to itself."""

    samples_in: int
    samples_out: int
    drops: dict[str, int]
    set_up_s: float  # from the start of the process to its first sample
    sample_s: float
    finish_s: float  # once a shard, after its last sample
    steady: bool  # whether sample_s leaves out the first batch, which warms up
    cores: float  # kept busy, on average, child processes included
    peak_bytes: int  # of memory, child processes included
    output_bytes: int
    empty_bytes: int  # of an output without samples
    samples_in_shard: float | None  # of the whole shard, which a source alone can tell

    @property
    def out_per_in(self) -> float:
        """Samples out for one in."""
        return self.samples_out / self.samples_in

    @property
    def bytes_per_sample(self) -> float:
        """Bytes written for one sample out, less what an empty output has as well."""
        return max(0, self.output_bytes - self.empty_bytes) / max(1, self.samples_out)


@dataclass
class Pace:
    """Lets a few batches through and keeps time: one is over when the first sample of the next is asked for.

    Until it is `open`, it lets nothing through. Of a stage that reads ahead, the first batch is over when nothing is in
    flight any more.
    """

    batch_size: int = 1
    reads_ahead: bool = False
    open: bool = True
    begun_s: list[float] = field(default_factory=list)  # of each batch
    begun_cpu_s: float = 0.0  # when the first one began
    ended_s: float = 0.0
    samples: int = 0
    _source: Iterator[Sample] = field(default_factory=lambda: iter(()))
    _at_rest: Event = field(default_factory=Event)

    def few(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The first samples, as many as the time allows."""
        self._source = iter(samples)
        while self.open and not self._enough():
            self.begun_cpu_s = self.begun_cpu_s or _cpu_s()
            self.begun_s.append(time.monotonic())
            for sample in islice(self._source, self.batch_size):
                self.samples += 1
                yield sample

    def in_flight(self, batches: Sequence[Sequence[str]]) -> None:
        """Hears from the engine; none: all batches are over."""
        if self.open and not batches:
            self.ended_s = time.monotonic()
            self._at_rest.set()

    def rest(self) -> int:
        """How many samples were not let through."""
        return sum(1 for _ in self._source)

    def sample_s(self) -> tuple[float, bool]:
        """Seconds a sample takes, and whether that leaves out the first batch."""
        later = self.samples - self.batch_size
        if later > 0:
            return (self.ended_s - self.begun_s[1]) / later, True
        return (self.ended_s - self.begun_s[0]) / self.samples, False

    def _enough(self) -> bool:
        batches = len(self.begun_s)
        if self.samples < batches * self.batch_size:
            return True  # the last batch was not full: there are no more
        if not batches:
            return False
        if self.reads_ahead and batches == 1:
            self._at_rest.wait()
        elapsed_s = time.monotonic() - self.begun_s[0]
        if batches == 1:
            return elapsed_s > _TOO_LONG_S
        return elapsed_s > _LONG_ENOUGH_S or self.samples + self.batch_size > max(_MOST_SAMPLES, 2 * self.batch_size)


@dataclass(frozen=True)
class _FewSamples(RunDir):
    """A run directory whose inputs are the first samples of columns that lie elsewhere."""

    inputs: dict[str, tuple[RunDir, Receipt]]
    pace: Pace

    def receipt(self, column: str, shard: str) -> Receipt | None:
        return self.inputs[column][1] if column in self.inputs else super().receipt(column, shard)

    def samples(self, receipts: Sequence[Receipt]) -> Iterator[Sample]:
        rows = {column: run.rows(receipt) for column, (run, receipt) in self.inputs.items()}
        return self.pace.few(Sample(key, columns) for key, columns in merge_on_key(rows))


def measure(spec: ProbeSpec, started_s: float) -> Measured:
    """Runs the stage as a worker would, on a few samples; raises ProbeError, with a traceback in it, if that fails.

    The same shard goes before it without any sample, so that what the first shard of a worker costs is part of set-up.
    """
    pace = Pace(open=False)
    runner = ShardRunner(
        spec.stage, _FewSamples(spec.made.uri, spec.inputs, pace), pace.in_flight, home=spec.home
    )  # fmt: skip
    stage = runner.stage
    pace.batch_size, pace.reads_ahead = stage.batch_size, isinstance(stage, PipelinedStage)
    if isinstance(stage, SourceStage):
        all_of = stage.source
        stage.source = lambda shard: pace.few(all_of(shard))
    runner.run(spec.shard)
    if empty := spec.made.receipt(stage.writes.name, spec.shard):
        delete_output(spec.made, empty)
    pace.open = True
    outcome = runner.run(spec.shard)
    done_s = time.monotonic()
    runner.close()
    if outcome.status != "done":
        raise ProbeError(outcome.error or outcome.status)
    if not pace.samples:
        raise ProbeError("no sample came to it")
    sample_s, steady = pace.sample_s()
    return Measured(
        samples_in=outcome.samples_in,
        samples_out=outcome.samples_out,
        drops=outcome.drops,
        set_up_s=pace.begun_s[0] - started_s,
        sample_s=sample_s,
        finish_s=done_s - pace.ended_s,
        steady=steady,
        cores=(_cpu_s() - pace.begun_cpu_s) / (time.monotonic() - pace.begun_s[0]),
        peak_bytes=peak_bytes(),
        output_bytes=outcome.bytes,
        empty_bytes=_empty_bytes(stage.writes),
        samples_in_shard=pace.samples + pace.rest() if isinstance(stage, SourceStage) else None,
    )


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def peak_bytes() -> int:
    """The most memory that this process has held. Not ru_maxrss, which on Linux begins with that of the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")), 0)


def _empty_bytes(column: Column) -> int:
    """Size of an output without samples, less the padding of a tar, which samples would fill."""
    if isinstance(column, FolderColumn):
        return 0
    if isinstance(column, TarColumn):
        return 2 * tarfile.BLOCKSIZE
    with tempfile.TemporaryDirectory() as scratch:
        return column.writer(Path(scratch)).finish().stat().st_size
