"""Steps whose cost is known: seconds, memory, bytes, rows, and ways to fail."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dap_engine.engine.records.column import Column, TarColumn
from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.steps.asset_settings import AssetUri
from dap_engine.engine.steps.step import PipelinedStage, Stage, StageContext
from tests.engine.steps import STEPS

_HOLD = "import sys, time; held = b'x' * (int(sys.argv[1]) << 20); time.sleep(0.5)"


@dataclass
class Costly(Stage):
    """Numbers to `costs`: `rows` rows of `row_bytes` for each sample, less every `drop_every`th sample."""

    name = "costly"
    column: str = "costs"
    reading: str = "numbers"
    weights: AssetUri = ""
    batch_size: int = 2
    set_up_s: float = 0.0
    warm_up_s: float = 0.0  # of the first batch
    sample_s: float = 0.0
    busy: bool = False  # computes instead of sleeping
    mib: int = 0
    child_mib: int = 0  # in a process of its own
    rows: int = 1
    row_bytes: int = 100
    drop_every: int = 0
    fails: Literal["", "raises", "crashes", "hangs"] = ""

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.reading,)

    @property
    def writes(self) -> Column:
        return TarColumn(self.column, ("bin",))

    def setup(self, context: StageContext) -> None:
        time.sleep(self.set_up_s)
        self._held = b"x" * (self.mib << 20)
        self._warm = False

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        time.sleep(0 if self._warm else self.warm_up_s)
        self._warm = True
        for sample in batch:
            self.work()
            if self.drop_every and int(sample.key[1:7]) % self.drop_every == 0:
                yield Drop(sample.key, "unlucky")
                continue
            for row in range(self.rows):
                yield Row(f"{sample.key}-{row}", {"bin": bytes(self.row_bytes)})

    def work(self) -> None:
        if self.fails == "raises":
            raise RuntimeError("cannot do it")
        if self.fails == "crashes":
            ctypes.string_at(0)
        if self.child_mib:
            subprocess.run([sys.executable, "-c", _HOLD, str(self.child_mib)], check=True)
        _pass(3600 if self.fails == "hangs" else self.sample_s, self.busy)


@dataclass
class CostlyModel(PipelinedStage, Costly):
    """The same cost, in the model of a pipelined stage."""

    def decode(self, sample: Sample) -> str:
        return sample.key

    def predict(self, decoded: list[str]) -> list[str]:
        time.sleep(0 if self._warm else self.warm_up_s)
        self._warm = True
        for _ in decoded:
            self.work()
        return decoded

    def encode(self, sample: Sample, result: str) -> Row:
        return Row(f"{sample.key}-0", {"bin": bytes(self.row_bytes)})


@dataclass
class CountThreads(Stage):
    """Drops everything; the code is how many threads libraries are told to compute with."""

    name = "count-threads"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("numbers",)

    @property
    def writes(self) -> Column:
        return TarColumn("threads", ("bin",))

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            yield Drop(sample.key, f"threads_{os.environ.get('OMP_NUM_THREADS')}")


def _pass(seconds: float, busy: bool) -> None:
    if not busy:
        time.sleep(seconds)
        return
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        pass


COSTLY_STEPS = {**STEPS, "costly": Costly, "costly-model": CostlyModel, "count-threads": CountThreads}
