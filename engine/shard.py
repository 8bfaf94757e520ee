"""The one way a shard is done, whoever calls it: tests, the in-process executor, or a Ray actor."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from engine.assets import Asset, AssetCache
from engine.commit import commit, fail
from engine.receipts import Basis, Receipt, basis_of
from engine.recipe import Node
from engine.rundir import RunDir
from engine.stage import Drop, Sample, SourceStage, Stage


@dataclass(frozen=True)
class MapStep:
    """A map stage bound to one run, ready to be sent to a worker."""

    node: Node
    assets: dict[str, Asset] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """The stage itself."""
        assert isinstance(self.node.step, Stage)
        return self.node.step

    def basis(self, inputs: dict[str, Receipt]) -> Basis:
        """What the stage's output of a shard depends on, given the receipts of the shard's inputs."""
        hashes = {column: receipt.output.sha256 for column, receipt in inputs.items()}
        return basis_of(self.stage, {name: asset.sha256 for name, asset in self.assets.items()}, hashes)


@dataclass(frozen=True)
class Outcome:
    """What became of one shard at one node."""

    node: str
    column: str
    shard: str
    status: Literal["done", "cached", "failed", "waiting"]  # waiting: an input of the shard is missing
    samples_in: int = 0
    samples_out: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


class ShardRunner:
    """Runs shards of one map stage, one after another; loads the stage's assets at the first shard that needs work."""

    def __init__(self, step: MapStep, run: RunDir) -> None:
        self._step, self._run, self._cache, self._ready = step, run, AssetCache(run), False

    def run(self, shard: str) -> Outcome:
        """Brings a shard up to date. An exception of the stage becomes a failed outcome with its traceback kept."""
        stage = self._step.stage
        try:
            inputs = {column: self._run.receipt(column, shard) for column in stage.reads}
            if None in inputs.values():
                return Outcome(self._step.node.name, stage.writes.name, shard, "waiting")
            present = {column: receipt for column, receipt in inputs.items() if receipt}
            return self._bring_up_to_date(shard, present)
        except Exception:  # noqa: BLE001 - a bug of a stage fails its shard, not the run; the traceback is kept
            return self._failed(shard, traceback.format_exc())

    def close(self) -> None:
        """Releases the stage and the copies of its assets."""
        self._step.stage.teardown()
        self._cache.clear()

    def _bring_up_to_date(self, shard: str, inputs: dict[str, Receipt]) -> Outcome:
        basis = self._step.basis(inputs)
        done = self._run.receipt(self._step.stage.writes.name, shard)
        if done and done.fingerprint == basis.fingerprint and self._run.holds(done):
            return self._outcome(done, "cached")
        self._set_up()
        return self._outcome(run_shard(self._step.stage, shard, self._run, basis, inputs), "done")

    def _set_up(self) -> None:
        if self._ready:
            return
        self._step.stage.setup({name: self._cache.local(asset) for name, asset in self._step.assets.items()})
        self._ready = True

    def _failed(self, shard: str, error: str) -> Outcome:
        column = self._step.stage.writes.name
        fail(self._run, column, shard, error)
        return Outcome(self._step.node.name, column, shard, "failed", error=error)

    def _outcome(self, receipt: Receipt, status: Literal["done", "cached"]) -> Outcome:
        counts = (receipt.samples_in, receipt.samples_out, receipt.drops, receipt.seconds)
        return Outcome(self._step.node.name, receipt.column, receipt.shard, status, *counts)


def run_shard(stage: Stage, shard: str, run: RunDir, basis: Basis, inputs: dict[str, Receipt]) -> Receipt:
    """Reads the shard's samples, puts them through the stage and commits its rows and drops; the receipt comes last."""
    started = time.monotonic()
    samples = stage.source(shard) if isinstance(stage, SourceStage) else run.samples(list(inputs.values()))
    drops: list[Drop] = []
    samples_in = samples_out = 0
    with run.storage.scratch() as scratch:
        writer = stage.writes.writer(scratch)
        for batch in _batched(samples, stage.batch_size):
            samples_in += len(batch)
            for item in stage.process(batch):
                if isinstance(item, Drop):
                    drops.append(item)
                else:
                    writer.add(item)
                    samples_out += 1
        return commit(
            run,
            column=stage.writes.name,
            shard=shard,
            basis=basis,
            local=writer.finish(),
            path=stage.writes.path(shard),
            samples_in=samples_in,
            samples_out=samples_out,
            drops=drops,
            seconds=time.monotonic() - started,
        )


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, size)):
        yield batch
