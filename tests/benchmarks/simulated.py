"""Runs that look finished: receipts and outputs written straight to their places, without the engine's flushes."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from dap_engine.engine.planning.recipe import Node
from dap_engine.engine.rundir.index import write_index
from dap_engine.engine.rundir.listing import receipt_path
from dap_engine.engine.rundir.receipts import Basis, Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.steps.fingerprint import basis_of
from dap_engine.engine.storage.storage import Output

_BEGAN_S = time.time() - 24 * 3600
_SHARDS_PER_S = 100


def pretend(
    run: RunDir, column: str, shard: str, basis: Basis, suffix: str, content: bytes = b"x", samples: int = 1
) -> Receipt:
    """Leaves an output and its receipt, as if written yesterday, `shard` being a number. Its hash is made up."""
    path, age_s = f"{column}/{shard}{suffix}", int(shard) / _SHARDS_PER_S
    receipt = Receipt(column, shard, basis, Output(path, f"{int(shard):064x}", len(content)), samples, samples)
    _write(run, path, content, _BEGAN_S + age_s)
    _write(run, receipt_path(column, shard), receipt.to_bytes(), _BEGAN_S + age_s)
    return receipt


def pretend_stage(
    run: RunDir, node: Node, assets: Mapping[str, str], inputs: Mapping[str, Receipt], shard: str
) -> Receipt:
    """A shard of a map stage that was made of these inputs, given the hashes of its assets."""
    basis = basis_of(node.step, dict(assets), {column: inputs[column].output.sha256 for column in node.step.reads})
    column = node.step.writes
    return pretend(run, column.name, shard, basis, Path(column.path(shard)).suffix)


def write_indices(run: RunDir, *columns: str) -> None:
    """The indices that the run would have kept."""
    for column in columns:
        write_index(run.storage, run.receipts(column))


def _write(run: RunDir, path: str, data: bytes, at_s: float) -> None:
    place = Path(run.storage.locate(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    os.utime(place, (at_s, at_s))
